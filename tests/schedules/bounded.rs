//! All schedules with so many preemptions, one after another.

use std::cell::Cell;
use std::rc::Rc;

use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};

/// Runs each task until it has to wait, but for at most so many preemptions a run, and goes through all
/// schedules that come of it: most bugs of this kind need no more than two. Tasks that begin or end free of
/// that count are chosen in every order.
#[derive(Debug)]
pub struct Bounded {
    preemptions_most: usize,
    schedules_left: usize,
    /// The choices of this run, so far as they are decided by those before.
    choices: Vec<Choice>,
    steps: usize,
    preemptions: usize,
    begun: bool,
    /// There are no more of them.
    exhausted: Rc<Cell<bool>>,
}

#[derive(Debug)]
struct Choice {
    options: usize,
    taken: usize,
}

impl Bounded {
    /// And where it says whether it went through all.
    pub fn new(preemptions_most: usize, schedules_most: usize) -> (Self, Rc<Cell<bool>>) {
        let exhausted = Rc::new(Cell::new(false));
        let bounded = Bounded {
            preemptions_most,
            schedules_left: schedules_most,
            choices: Vec::new(),
            steps: 0,
            preemptions: 0,
            begun: false,
            exhausted: Rc::clone(&exhausted),
        };
        (bounded, exhausted)
    }
}

impl Scheduler for Bounded {
    fn new_execution(&mut self) -> Option<Schedule> {
        if self.schedules_left == 0 {
            return None;
        }
        if self.begun {
            while self.choices.last().is_some_and(|last| last.taken + 1 == last.options) {
                self.choices.pop();
            }
            let Some(last) = self.choices.last_mut() else {
                self.exhausted.set(true);
                return None;
            };
            last.taken += 1;
        }
        self.begun = true;
        self.schedules_left -= 1;
        (self.steps, self.preemptions) = (0, 0);
        Some(Schedule::new(0))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        _is_yielding: bool,
    ) -> Option<TaskId> {
        let stays = runnable.iter().position(|task| Some(task.id()) == current);
        let options = match stays {
            Some(_) if self.preemptions == self.preemptions_most => 1,
            Some(_) | None => runnable.len(),
        };
        let taken = if options == 1 {
            0
        } else {
            if self.steps == self.choices.len() {
                self.choices.push(Choice { options, taken: 0 });
            }
            let choice = &self.choices[self.steps];
            assert_eq!(choice.options, options, "the same choices lead to the same place");
            self.steps += 1;
            choice.taken
        };
        // To go on is the first option.
        let index = match stays {
            Some(stays) if taken == 0 => stays,
            Some(stays) => {
                self.preemptions += 1;
                if taken <= stays { taken - 1 } else { taken }
            }
            None => taken,
        };
        Some(runnable[index].id())
    }

    fn next_u64(&mut self) -> u64 {
        unreachable!("no model asks for a random number")
    }
}
