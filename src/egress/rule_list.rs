//! The rules of one kind, of which the last match decides.

/// The rules of one kind, in the order in which they were added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RuleList<B, M> {
    pub(super) default: B,
    added: Vec<Rule<M>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule<M> {
    pub(super) matcher: M,
    pub(super) verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    Deny,
}

impl<B, M> RuleList<B, M> {
    pub(super) fn new(default: B) -> Self {
        RuleList { default, added: Vec::new() }
    }

    pub(super) fn add(&mut self, matcher: M, verdict: Verdict) {
        self.added.push(Rule { matcher, verdict });
    }

    /// Returns the last rule that matches, which decides.
    pub(super) fn last_match(&self, matches: impl Fn(&M) -> bool) -> Option<&Rule<M>> {
        self.added.iter().rfind(|rule| matches(&rule.matcher))
    }

    pub(super) fn denies(&self) -> bool {
        self.added.iter().any(|rule| rule.verdict == Verdict::Deny)
    }
}
