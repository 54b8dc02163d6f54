//! The samples, `preforkd.conf` and those in `conf.d`, and the table of directives.

use std::collections::BTreeSet;
use std::process::Command;

use super::*;
use crate::config::directive::{Directive, Reader, Scope, Source};
use crate::config::problem::Origin;
use crate::config::raw::{Entry, RawGlobal, RawPool};
use crate::config::scan::{Line, scan};
use crate::config::table::table;

/// The samples, each under the name that a person gives it.
const SAMPLES: [(&str, &str); 6] = [
    (
        "preforkd.conf",
        include_str!("../../../../packaging/preforkd.conf"),
    ),
    (
        "conf.d/hello.conf",
        include_str!("../../../../conf.d/hello.conf"),
    ),
    (
        "conf.d/site.conf",
        include_str!("../../../../conf.d/django.conf.sample"),
    ),
    (
        "conf.d/shop.conf",
        include_str!("../../../../conf.d/flask.conf.sample"),
    ),
    (
        "conf.d/php.conf",
        include_str!("../../../../conf.d/php.conf.sample"),
    ),
    (
        "conf.d/wiki.conf",
        include_str!("../../../../conf.d/program.conf.sample"),
    ),
];

/// That with every directive, which is made from the table.
const EVERY: &str = include_str!("../../../../conf.d/every-directive.conf.sample");

/// The samples where a person puts them, with a site that has what they say.
fn installed() -> Case {
    let case = Case::new("");
    for (name, text) in SAMPLES {
        case.write(name, &at_case(text));
    }
    for folder in ["site/lib", "site/src", "wiki"] {
        fs::create_dir_all(case.path(folder)).unwrap();
    }
    for program in [
        "site/venv/bin/python3",
        "shop/venv/bin/python3",
        "wiki/bin/wiki",
        "php-cgi",
    ] {
        let program = case.write(program, "");
        fs::set_permissions(program, Permissions::from_mode(0o755)).unwrap();
    }
    case
}

/// A sample whose applications, and the PHP that not every machine has, are in the case's folder.
fn at_case(text: &str) -> String {
    text.replace("/srv/", "@/")
        .replace("exec = /usr/bin/php-cgi", "exec = @/php-cgi")
}

/// A sample with the entries in its comments made real.
fn opened(text: &str) -> String {
    let lines = text.lines().map(|line| match line.strip_prefix(';') {
        Some(rest) if rest.starts_with(|first: char| first.is_ascii_lowercase()) => rest,
        _ => line,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// The entries of a sample, and those in a comment of the form `;name = value`.
fn entries(text: &str) -> Vec<(String, String, bool)> {
    text.lines()
        .filter_map(|line| {
            let comment = line
                .strip_prefix(';')
                .filter(|rest| rest.starts_with(|first: char| first.is_ascii_lowercase()));
            match scan(comment.unwrap_or(line).as_bytes(), &|_| None).unwrap() {
                Line::Assignment { name, value, .. } => Some((name, value, comment.is_some())),
                Line::Blank | Line::Section(_) => None,
            }
        })
        .collect()
}

#[test]
fn the_samples_are_right_as_they_stand() {
    let surroundings = Surroundings {
        effective_uid: ROOT,
        ..SURROUNDINGS
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/preforkd.conf");
    let config = load(&file, &surroundings, &Names::default())
        .unwrap_or_else(|problems| panic!("{problems}"));
    let names: Vec<_> = config.pools.iter().map(|pool| &pool.name).collect();
    assert_eq!(names, ["hello"]);
    assert_eq!(config.notices, Vec::<String>::new());
}

#[test]
fn the_samples_are_right() {
    let case = installed();
    let config = case
        .load_file("preforkd.conf", ROOT)
        .unwrap_or_else(|problems| panic!("{problems:#?}"));
    let names: Vec<_> = config.pools.iter().map(|pool| &pool.name).collect();
    assert_eq!(names, ["hello", "php", "shop", "site", "wiki"]);
    for (name, _) in SAMPLES {
        if let Err(problems) = case.load_file(name, ROOT) {
            panic!("{problems:#?}");
        }
    }
}

#[test]
fn the_samples_are_right_with_their_comments_opened() {
    let case = installed();
    for (name, text) in SAMPLES {
        case.write(name, &at_case(&opened(text)));
    }
    if let Err(problems) = case.load_file("preforkd.conf", ROOT) {
        panic!("{problems:#?}");
    }
}

#[test]
fn the_sample_with_every_directive_is_right() {
    let case = installed();
    case.write("alone/x.conf", &at_case(EVERY));
    let config = case.load_file("alone/x.conf", ROOT).unwrap();
    assert_eq!(config.pools[0].application, Application::Hello);

    // A pool has one application, and the interpreter of the other is not in the root of a chroot.
    let text = at_case(&opened(EVERY));
    let text = text
        .replace("\napp = ", "\n;app = ")
        .replace("\nexec", "\n;exec")
        .replace("\nchroot = ", "\n;chroot = ");
    case.write("alone/x.conf", &text);
    let config = case
        .load_file("alone/x.conf", ROOT)
        .unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert!(matches!(config.pools[0].application, Application::Wsgi(_)));

    let shown: BTreeSet<String> = entries(EVERY).into_iter().map(|(name, ..)| name).collect();
    let all: BTreeSet<String> = table()
        .filter(|directive| directive.source != Source::PhpOnly)
        .map(|directive| directive.name.to_owned())
        .collect();
    assert_eq!(shown, all);
}

/// A module of the standard library would be imported instead of the site's.
#[test]
fn the_samples_do_not_name_a_standard_module() {
    let config = installed().load_file("preforkd.conf", ROOT).unwrap();
    let modules: Vec<&str> = config
        .pools
        .iter()
        .filter_map(|pool| match &pool.application {
            Application::Wsgi(wsgi) => wsgi.module.split('.').next(),
            Application::Hello | Application::Exec(_) => None,
        })
        .collect();
    assert!(!modules.is_empty());
    let status = Command::new("python3")
        .args([
            "-c",
            "import sys; sys.exit(len(sys.stdlib_module_names.intersection(sys.argv[1:])))",
        ])
        .args(&modules)
        .status()
        .unwrap();
    assert!(status.success(), "{modules:?}");
}

#[test]
fn the_samples_show_defaults_as_they_are() {
    for (name, value, commented) in SAMPLES
        .iter()
        .map(|(_, text)| text)
        .chain([&EVERY])
        .flat_map(|text| entries(text))
    {
        let directive =
            Directive::find(&name, Scope::Pool).unwrap_or_else(|| panic!("no directive {name}"));
        if let (true, Some(default)) = (commented, directive.default) {
            assert_eq!(value, default, "{name}");
        }
    }
}

#[test]
fn every_default_is_right() {
    for directive in table() {
        let Some(default) = directive.default else {
            continue;
        };
        let entry = Entry {
            origin: Some(Origin {
                file: Path::new("x").into(),
                line: 1,
                order: 1,
            }),
            name: directive.name,
            key: None,
            text: default.to_owned(),
            blank: false,
        };
        let set = match directive.reader {
            Reader::Global { set, .. } => set(&mut RawGlobal::default(), &entry),
            Reader::Pool { set, .. } => set(&mut RawPool::default(), &entry),
            Reader::Include | Reader::IgnoredInGlobal | Reader::IgnoredInPool => {
                panic!("{} cannot have a default", directive.name)
            }
        };
        assert_eq!(set, Ok(()), "{}", directive.name);
    }
}

#[test]
fn the_table_is_well_formed() {
    for scope in [Scope::Global, Scope::Pool] {
        let here = || table().filter(move |directive| directive.is_in(scope));
        let names: BTreeSet<&str> = here().map(|directive| directive.name).collect();
        assert_eq!(names.len(), here().count(), "a name is there twice");
    }
    for directive in table() {
        let name = directive.name;
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || b"._".contains(&byte)),
            "{name}"
        );
        assert!(directive.text.ends_with('.'), "{name}");
        let sentences = directive.text.matches(". ").count() + 1;
        assert!(sentences <= 3, "{name}: {sentences} sentences");
        let found = Directive::find(&name.to_uppercase(), Scope::Pool);
        assert_eq!(found.unwrap().name, name);
    }
}

#[test]
fn misspelt_names_find_their_directive() {
    for (name, nearest) in [
        ("pm.max_childs", Some("pm.max_children")),
        ("max_children", Some("pm.max_children")),
        ("pm.min_spare_server", Some("pm.min_spare_servers")),
        ("listen.onwer", Some("listen.owner")),
        ("Pythonpaths", Some("pythonpath")),
        ("wsgi_preload", Some("wsgi.preload")),
        ("usr", Some("user")),
        ("colour", None),
        ("", None),
    ] {
        let found = Directive::nearest(name).map(|directive| directive.name);
        assert_eq!(found, nearest, "{name}");
    }
    assert!(Directive::nearest(&"pm.max_children".repeat(5)).is_none());
}

#[test]
fn the_reference_has_every_directive() {
    let reference = reference();
    for directive in table() {
        assert!(
            reference.contains(&directive.spelling()),
            "{}",
            directive.name
        );
    }
    assert!(
        reference.lines().all(|line| line.len() <= 80),
        "{reference}"
    );
}
