//! Compares the uses in a source with the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::source::{Place, Source, Target, Use};
use super::{APART, BANNED, CRATES, LAYERS, ROOMS, SYSTEM_CFGS, WITHOUT_CIRCLES};

/// A path that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) place: Place,
    pub(super) path: String,
    rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { place: Place { file, line }, path, rule } = self;
        write!(f, "src/{file}:{line}: {path}: {rule}")
    }
}

/// Returns every violation.
pub(super) fn all(source: &Source) -> Vec<Violation> {
    let uses = source.uses();
    let mut found = unknown_files(source);
    for used in &uses {
        if let Some(rule) = broken_rule(used) {
            let path = used.path.join("::");
            found.push(Violation { place: used.place.clone(), path, rule });
        }
    }
    found.extend(system_cfgs(source));
    for modules in WITHOUT_CIRCLES {
        found.extend(circles(source, &uses, modules));
    }
    found
}

/// Returns files without a layer, and files of the driver without a room.
fn unknown_files(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    for (file, module) in source.file_modules() {
        let rule = match &module[..] {
            [] => None,
            [driver] if driver == "driver" => None,
            [driver, room, ..] if driver == "driver" => room_of(room)
                .is_none()
                .then_some("has no room: give it one in tests/layering/layering.rs"),
            [top, ..] => layer_of(top)
                .is_none()
                .then_some("has no layer: give it one in tests/layering/layering.rs"),
        };
        if let Some(rule) = rule {
            let place = Place { file: file.to_owned(), line: 1 };
            found.push(Violation { place, path: module.join("::"), rule: rule.to_owned() });
        }
    }
    found
}

fn broken_rule(used: &Use) -> Option<String> {
    let from = &used.from;
    match &used.target {
        Target::Crate => forbidden_crate(from, &used.path),
        Target::Module { named, defining, .. } => {
            // A path may lead through the root or the driver to an item of a lower module.
            let named =
                if defining.starts_with(named) { None } else { forbidden_module(from, named) };
            named.or_else(|| forbidden_module(from, defining))
        }
    }
}

fn forbidden_module(from: &[String], used: &[String]) -> Option<String> {
    let own = from.first().map_or("lib", String::as_str);
    let top = used.first().map_or("lib", String::as_str);
    let (own_layer, layer) = (layer_of(own)?, layer_of(top)?);
    if layer > own_layer {
        return Some(format!("{own} is below {top}"));
    }
    if APART.iter().any(|pair| own != top && pair.contains(&own) && pair.contains(&top)) {
        return Some(format!("{own} and {top} may not use each other"));
    }
    let ("driver", "driver", [_, own_room, ..]) = (own, top, from) else {
        return None;
    };
    let (_, allowed) = room_of(own_room)?;
    match used {
        [_, room, ..] if room == own_room || allowed.contains(&room.as_str()) => None,
        [_, room, ..] => {
            let allowed = allowed.join(", ");
            Some(format!("the room {own_room} may not use {room}, only: {allowed}"))
        }
        _ => Some(format!("the room {own_room} may not use driver/mod.rs")),
    }
}

fn forbidden_crate(from: &[String], path: &[String]) -> Option<String> {
    let module = from.join("::");
    let whole = path.join("::");
    for (limited, items) in BANNED {
        let glob = whole.strip_suffix("::*");
        let is_banned = |item: &str| {
            is_within(&whole, item) || glob.is_some_and(|prefix| is_within(item, prefix))
        };
        if is_within(&module, limited) && items.iter().any(|item| is_banned(item)) {
            return Some(format!("{limited} may not use it"));
        }
    }
    if ["std", "core", "alloc"].contains(&path[0].as_str()) {
        return None;
    }
    match CRATES.iter().find(|(name, _)| *name == path[0]) {
        None => Some("is not in the table of crates of tests/layering/layering.rs".to_owned()),
        Some((_, modules)) if modules.iter().any(|allowed| is_within(&module, allowed)) => None,
        Some((name, modules)) => {
            Some(format!("only these may name {name}: {}", modules.join(", ")))
        }
    }
}

/// Returns the configurations of the system that the driver asks for outside of `sys`.
fn system_cfgs(source: &Source) -> Vec<Violation> {
    let asked = source.cfgs.iter().filter(|(place, name)| {
        place.file.starts_with("driver/")
            && !place.file.starts_with("driver/sys")
            && SYSTEM_CFGS.contains(&name.as_str())
    });
    let violation = |(place, name): &(Place, String)| Violation {
        place: place.clone(),
        path: format!("cfg({name})"),
        rule: "only driver::sys may depend on the system".to_owned(),
    };
    asked.map(violation).collect()
}

/// Returns the uses that form circles among the files of these modules.
pub(super) fn circles(source: &Source, uses: &[Use], modules: &[&str]) -> Vec<Violation> {
    let is_inside =
        |module: &[String]| module.first().is_some_and(|top| modules.contains(&top.as_str()));
    let mut edges: BTreeMap<(&str, &str), &Use> = BTreeMap::new();
    for used in uses {
        // A path to a whole module uses nothing of it; the paths that begin with its name do.
        let Target::Module { defining, is_whole: false, .. } = &used.target else { continue };
        if used.is_reexport || !is_inside(&used.from) || !is_inside(defining) {
            continue;
        }
        let (from, to) = (source.file(&used.from), source.file(defining));
        // A module is a part of the modules around it, and can use their private items.
        if from != to && !used.from.starts_with(defining) {
            edges.entry((from, to)).or_insert(used);
        }
    }
    let files: BTreeSet<(&str, &str)> = edges.keys().copied().collect();
    edges.retain(|(from, to), _| leads_to(&files, to, from));
    let violation = |((_, to), used): ((&str, &str), &Use)| Violation {
        place: used.place.clone(),
        path: used.path.join("::"),
        rule: format!("is in src/{to}, and part of a circle of files"),
    };
    edges.into_iter().map(violation).collect()
}

/// Returns whether a file uses another one, itself or through others.
fn leads_to(edges: &BTreeSet<(&str, &str)>, from: &str, to: &str) -> bool {
    let (mut seen, mut pending) = (BTreeSet::from([from]), vec![from]);
    while let Some(file) = pending.pop() {
        if file == to {
            return true;
        }
        let used = edges.iter().filter(|(from, _)| *from == file);
        pending.extend(used.map(|(_, used)| *used).filter(|used| seen.insert(used)));
    }
    false
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn room_of(name: &str) -> Option<(&'static str, &'static [&'static str])> {
    ROOMS.into_iter().find(|(room, _)| *room == name)
}

/// Returns whether a path is another one or inside it.
fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}
