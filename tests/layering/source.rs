//! Reads the files of a crate, and finds the modules that their paths lead to.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Ident, Meta, UseTree, Visibility};

/// The names of a module from the root on. The root has none.
pub(super) type ModulePath = Vec<String>;

/// A crate without its unit tests.
#[derive(Debug, Default)]
pub(super) struct Source {
    modules: BTreeMap<ModulePath, Module>,
    references: Vec<Reference>,
    /// The configurations that are asked for, with their places.
    pub(super) cfgs: Vec<(Place, String)>,
}

#[derive(Debug)]
struct Module {
    file: String,
    /// The names that `use` declares, with their paths as written.
    imports: BTreeMap<String, Import>,
}

#[derive(Clone, Debug)]
struct Import {
    path: Vec<String>,
    /// Whether other modules can use the name.
    is_reexport: bool,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) file: String,
    pub(super) line: usize,
}

/// A path in the code.
#[derive(Debug)]
struct Reference {
    place: Place,
    module: ModulePath,
    path: Vec<String>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An import for this module alone.
    Import,
    /// An import that other modules can use.
    Reexport,
    /// A path in a type, an expression, a pattern or a macro.
    Code,
}

/// A use of another module or crate.
#[derive(Debug)]
pub(super) struct Use {
    pub(super) place: Place,
    pub(super) from: ModulePath,
    /// The full path, as far as it is written: it begins with `crate` or the name of a crate.
    pub(super) path: Vec<String>,
    pub(super) target: Target,
    /// Whether it only makes the name available to other modules.
    pub(super) is_reexport: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// An item of another crate.
    Crate,
    Module {
        /// The module that the path names.
        named: ModulePath,
        /// The module that defines the item, which another module may re-export.
        defining: ModulePath,
        /// Whether the path ends with a module, of which other paths may name items.
        is_whole: bool,
    },
}

impl Source {
    /// Parses the files, which are given with their paths below `src`.
    pub(super) fn parse(files: &[(String, String)]) -> Result<Self, String> {
        let mut source = Source::default();
        let mut tests = BTreeSet::new();
        let mut parsed = Vec::new();
        for (file, text) in files {
            let syntax = syn::parse_file(text)
                .map_err(|error| format!("src/{file}:{}: {error}", error.span().start().line))?;
            let module = module_of(file);
            find_test_modules(&syntax.items, &module, &mut tests);
            if is_test(&syntax.attrs) {
                tests.insert(module.clone());
            }
            parsed.push((file, module, syntax));
        }
        parsed
            .retain(|(_, module, _)| !(0..=module.len()).any(|end| tests.contains(&module[..end])));
        for (file, module, syntax) in &parsed {
            Reader { source: &mut source, file, module: module.clone() }.read(syntax);
        }
        Ok(source)
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.modules.values().map(|module| module.file.as_str())
    }

    /// Returns the modules that are files of their own.
    pub(super) fn file_modules(&self) -> impl Iterator<Item = (&str, ModulePath)> {
        self.modules
            .iter()
            .map(|(path, module)| (module.file.as_str(), path.clone()))
            .filter(|(file, path)| module_of(file) == *path)
    }

    /// Returns the file of a module.
    pub(super) fn file(&self, module: &[String]) -> &str {
        &self.modules[module].file
    }

    /// Returns the uses of other crates and of the modules of this one.
    pub(super) fn uses(&self) -> Vec<Use> {
        let used = self.references.iter().filter_map(|reference| {
            let Reference { place, module, path, kind } = reference;
            // A name that this module imports is used where it is imported, except if others import it from here.
            if path.len() == 1 && *kind == Kind::Code && !self.modules[module].reexports(&path[0]) {
                return None;
            }
            let (path, target) = self.resolve(module, path)?;
            Some(Use {
                place: place.clone(),
                from: module.clone(),
                path,
                target,
                is_reexport: *kind == Kind::Reexport,
            })
        });
        used.collect()
    }

    /// Returns the full path and its target.
    fn resolve(&self, module: &[String], path: &[String]) -> Option<(Vec<String>, Target)> {
        let written = self.absolute(module, path, MAX_IMPORTS)?;
        if written[0] != "crate" {
            return Some((written, Target::Crate));
        }
        let (named, _) = self.walk(&written);
        let mut full = written.clone();
        for _ in 0..MAX_IMPORTS {
            let (inner, rest) = self.walk(&full);
            let import = rest.first().and_then(|name| self.modules[&inner].imports.get(name));
            let Some(import) = import else {
                let is_whole = rest.is_empty();
                return Some((written, Target::Module { named, defining: inner, is_whole }));
            };
            let mut next = self.absolute(&inner, &import.path, MAX_IMPORTS)?;
            next.extend_from_slice(&rest[1..]);
            if next[0] != "crate" {
                // The item of another crate counts as one of the module that re-exports it.
                return Some((written, Target::Module { named, defining: inner, is_whole: false }));
            }
            full = next;
        }
        None
    }

    /// Resolves `self`, `super` and imported names at the beginning of a path. Returns `None` for an item of the module
    /// itself and for names without a module, such as type parameters.
    fn absolute(&self, module: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
        let mut module = module.to_vec();
        let mut rest = path;
        while let Some(first) = rest.first() {
            match first.as_str() {
                "crate" => return Some(rest.to_vec()),
                "self" => {}
                "super" => drop(module.pop()),
                _ => break,
            }
            rest = &rest[1..];
        }
        let inside = || {
            let root = ["crate".to_owned()];
            Some(root.iter().chain(&module).chain(rest).cloned().collect())
        };
        let Some(first) = rest.first().filter(|_| rest.len() == path.len()) else {
            return inside();
        };
        let child: ModulePath = module.iter().chain([first]).cloned().collect();
        if self.modules.contains_key(&child) {
            return inside();
        }
        let import = self.modules.get(&module).and_then(|own| own.imports.get(first));
        match import {
            // `use name;` does not refer to itself.
            Some(import) if import.path != path[..1] => {
                let mut full = self.absolute(&module, &import.path, depth.checked_sub(1)?)?;
                full.extend_from_slice(&rest[1..]);
                Some(full)
            }
            _ => is_crate_name(first).then(|| rest.to_vec()),
        }
    }

    /// Follows a path through modules. Returns the last module, and the rest of the path.
    fn walk(&self, path: &[String]) -> (ModulePath, Vec<String>) {
        let mut module = ModulePath::new();
        let mut rest = &path[1..];
        while let Some(name) = rest.first() {
            module.push(name.clone());
            if !self.modules.contains_key(&module) {
                module.pop();
                break;
            }
            rest = &rest[1..];
        }
        (module, rest.to_vec())
    }
}

impl Module {
    fn reexports(&self, name: &str) -> bool {
        self.imports.get(name).is_some_and(|import| import.is_reexport)
    }
}

/// Returns the module of a file: `machine/tls.rs` is `machine::tls`, `machine/mod.rs` is `machine`, and `lib.rs` is the
/// root.
fn module_of(file: &str) -> ModulePath {
    let mut parts: ModulePath =
        file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod") || parts == ["lib"] {
        parts.pop();
    }
    parts
}

/// Returns whether an unknown name at the beginning of a path is that of a crate. Types begin with a capital letter.
fn is_crate_name(name: &str) -> bool {
    const PRIMITIVE: [&str; 17] = [
        "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "str", "u8",
        "u16", "u32", "u64", "u128", "usize",
    ];
    name.starts_with(|first: char| first.is_lowercase()) && !PRIMITIVE.contains(&name)
}

/// The maximum length of a chain of imports. Imports of different functions may seem to form a circle.
const MAX_IMPORTS: usize = 10;

// -------------------------------------------------------------------- reading a file

fn find_test_modules(items: &[syn::Item], module: &[String], into: &mut BTreeSet<ModulePath>) {
    for item in items {
        if let syn::Item::Mod(item) = item {
            let path: ModulePath = module.iter().cloned().chain([item.ident.to_string()]).collect();
            if is_test(&item.attrs) {
                into.insert(path);
            } else if let Some((_, items)) = &item.content {
                find_test_modules(items, &path, into);
            }
        }
    }
}

/// Returns whether an item is compiled for unit tests only.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && matches!(&attribute.meta, Meta::List(list) if requires_test(&list.tokens))
    })
}

/// Returns whether a predicate is `test`, or `all` with `test` among its parts.
fn requires_test(predicate: &TokenStream) -> bool {
    let trees: Vec<TokenTree> = predicate.clone().into_iter().collect();
    match &trees[..] {
        [TokenTree::Ident(name)] => name == "test",
        [TokenTree::Ident(name), TokenTree::Group(parts)] if name == "all" => {
            let parts: Vec<TokenTree> = parts.stream().into_iter().collect();
            let mut parts = parts
                .split(|tree| matches!(tree, TokenTree::Punct(comma) if comma.as_char() == ','));
            parts.any(|part| requires_test(&part.iter().cloned().collect()))
        }
        _ => false,
    }
}

/// Reads one file into the source.
struct Reader<'a> {
    source: &'a mut Source,
    file: &'a str,
    module: ModulePath,
}

impl Reader<'_> {
    fn read(&mut self, syntax: &syn::File) {
        self.add_module();
        self.visit_file(syntax);
    }

    fn add_module(&mut self) {
        let module = Module { file: self.file.to_owned(), imports: BTreeMap::new() };
        self.source.modules.insert(self.module.clone(), module);
    }

    fn place(&self, ident: &Ident) -> Place {
        Place { file: self.file.to_owned(), line: ident.span().start().line }
    }

    fn add(&mut self, place: Place, path: Vec<String>, kind: Kind) {
        let module = self.module.clone();
        self.source.references.push(Reference { place, module, path, kind });
    }

    fn add_use(&mut self, tree: &UseTree, prefix: &[String], is_reexport: bool) {
        let path =
            |ident: &Ident| prefix.iter().cloned().chain([ident.to_string()]).collect::<Vec<_>>();
        let (ident, name, path) = match tree {
            UseTree::Path(inner) => {
                return self.add_use(&inner.tree, &path(&inner.ident), is_reexport);
            }
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.add_use(tree, prefix, is_reexport));
            }
            UseTree::Glob(glob) => {
                let line = glob.star_token.spans[0].start().line;
                let path = prefix.iter().cloned().chain(["*".to_owned()]).collect();
                return self.add(Place { file: self.file.to_owned(), line }, path, Kind::Import);
            }
            UseTree::Name(inner) if inner.ident == "self" => {
                (&inner.ident, prefix.last().cloned().unwrap_or_default(), prefix.to_vec())
            }
            UseTree::Name(inner) => (&inner.ident, inner.ident.to_string(), path(&inner.ident)),
            UseTree::Rename(inner) if inner.ident == "self" => {
                (&inner.ident, inner.rename.to_string(), prefix.to_vec())
            }
            UseTree::Rename(inner) => (&inner.ident, inner.rename.to_string(), path(&inner.ident)),
        };
        let kind = if is_reexport { Kind::Reexport } else { Kind::Import };
        self.add(self.place(ident), path.clone(), kind);
        let module = self.source.modules.get_mut(&self.module).expect("it was added");
        // If different configurations import a name, the first one counts for paths through it.
        module.imports.entry(name).or_insert(Import { path, is_reexport });
    }

    /// Adds the paths in the tokens of a macro.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<Ident> = Vec::new();
        let mut colons = 0;
        for tree in tokens {
            match tree {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.add_idents(&path);
                        path.clear();
                    }
                    path.push(ident);
                    colons = 0;
                }
                other => {
                    self.add_idents(&path);
                    path.clear();
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.add_tokens(group.stream());
                    }
                }
            }
        }
        self.add_idents(&path);
    }

    fn add_idents(&mut self, path: &[Ident]) {
        if let Some(first) = path.first() {
            self.add(self.place(first), path.iter().map(Ident::to_string).collect(), Kind::Code);
        }
    }

    /// Adds the names in a predicate of `cfg`, except in the texts.
    fn add_cfgs(&mut self, predicate: TokenStream) {
        for tree in predicate {
            match tree {
                TokenTree::Ident(ident) => {
                    let cfg = (self.place(&ident), ident.to_string());
                    self.source.cfgs.push(cfg);
                }
                TokenTree::Group(group) => self.add_cfgs(group.stream()),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }
}

/// Skips what only unit tests compile.
macro_rules! skip_tests {
    ($($visit:ident: $node:ident,)*) => {
        $(fn $visit(&mut self, node: &'ast syn::$node) {
            if !is_test(&node.attrs) {
                visit::$visit(self, node);
            }
        })*
    };
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_test(&item.attrs) {
            return;
        }
        item.attrs.iter().for_each(|attribute| self.visit_attribute(attribute));
        if let Some((_, items)) = &item.content {
            self.module.push(item.ident.to_string());
            self.add_module();
            items.iter().for_each(|item| self.visit_item(item));
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            item.attrs.iter().for_each(|attribute| self.visit_attribute(attribute));
            let is_reexport = !matches!(item.vis, Visibility::Inherited);
            self.add_use(&item.tree, &[], is_reexport);
        }
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        self.add(self.place(&item.ident), vec![item.ident.to_string()], Kind::Import);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let idents: Vec<Ident> =
            path.segments.iter().map(|segment| segment.ident.clone()).collect();
        self.add_idents(&idents);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        if call.path.is_ident("cfg") {
            self.add_cfgs(call.tokens.clone());
        } else {
            self.add_tokens(call.tokens.clone());
        }
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            if attribute.path().is_ident("cfg") {
                self.add_cfgs(list.tokens.clone());
            } else if attribute.path().is_ident("cfg_attr") {
                let predicate = list.tokens.clone().into_iter().take_while(
                    |tree| !matches!(tree, TokenTree::Punct(comma) if comma.as_char() == ','),
                );
                self.add_cfgs(predicate.collect());
            }
        }
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {
        // The path in `pub(in path)` is no import.
    }

    skip_tests! {
        visit_arm: Arm,
        visit_expr_block: ExprBlock,
        visit_field: Field,
        visit_field_value: FieldValue,
        visit_impl_item_const: ImplItemConst,
        visit_impl_item_fn: ImplItemFn,
        visit_item_const: ItemConst,
        visit_item_enum: ItemEnum,
        visit_item_fn: ItemFn,
        visit_item_impl: ItemImpl,
        visit_item_macro: ItemMacro,
        visit_item_static: ItemStatic,
        visit_item_struct: ItemStruct,
        visit_item_trait: ItemTrait,
        visit_item_type: ItemType,
        visit_local: Local,
        visit_stmt_macro: StmtMacro,
        visit_trait_item_fn: TraitItemFn,
        visit_variant: Variant,
    }
}
