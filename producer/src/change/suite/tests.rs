use super::super::tree::Entry;
use super::*;

fn tree(names: &[&str]) -> Tree {
    let entry = || Entry { mode: 0o100_644, oid: "aa".to_owned(), size: 1 };
    Tree(names.iter().map(|name| (name.as_bytes().to_vec(), entry())).collect())
}

fn safety(names: &[&str], file: Option<&str>) -> Result<Safety, Error> {
    Safety::of(&tree(names), file.map(str::as_bytes), None)
}

#[test]
fn what_a_repository_is_tested_by_is_found_out() {
    assert_eq!(safety(&["Cargo.toml", "src/lib.rs"], None).unwrap().runner, Runner::Cargo);
    assert_eq!(safety(&["a.py", "tests/test_a.py"], None).unwrap().runner, Runner::Python);
    let shell = safety(&["a.sh", "tests/a.sh", "tests/b.sh"], None).unwrap();
    assert_eq!((shell.runner, shell.suite.tests.len()), (Runner::Command, 2));
    assert!(matches!(safety(&["README.md"], None), Err(Error::NoTests)));
    assert!(matches!(safety(&["a"], Some("version = 1")), Err(Error::NoTests)));
}

#[test]
fn a_wrong_file_names_what_is_wrong() {
    for (file, names) in [
        ("", "version"),
        ("version = 2", "version is 2"),
        ("version = 1\ncolour = 1", "colour"),
        ("version = 1\n[suites.default]\nrunner = 'dance'", "dance"),
        ("version = 1\n[suites.default]\nrepeat = 0", "repeat is 0"),
        ("version = 1\n[budgets]\ntime = 0.5", "budgets.time"),
        ("version = 1\n[budgets]\nbinary_size = { paths = [] }", "budgets.binary_size.paths"),
        ("version = 1\n[budgets]\nbinary_size = { paths = ['/bin/*'] }", "within the repository"),
        (
            "version = 1\n[budgets]\nbinary_size = { paths = ['a'], grows_at_most = '5' }",
            "write it as \"5%\"",
        ),
        (
            "version = 1\n[budgets]\nbinary_size = { paths = ['a'], grows_at_most = '-1%' }",
            "\"-1%\" is no share",
        ),
        ("version = 1\n[policy]\nprotect = ['a[']", "a["),
        ("version = 1\n[suites.default]\nprefix = ['../x']", "prefix"),
        ("version = 1\n[suites.default]\nbuild = [[]]", "empty command"),
    ] {
        let error = safety(&["tests/a.sh"], Some(file)).unwrap_err().to_string();
        assert!(error.contains(names) && error.starts_with("safety.toml of the base"), "{file}: {error}");
    }
    let unknown = Safety::of(&tree(&["tests/a.sh"]), None, Some("nightly")).unwrap_err().to_string();
    assert!(unknown.contains("nightly"), "{unknown}");
}

#[test]
fn the_suite_and_its_tests_are_not_to_be_touched() {
    let file =
        "version = 1\n[suites.default]\ntests = [{name = 'a', argv = ['python3', './check/a.py', '-v']}]";
    let safety = safety(&["check/a.py"], Some(file)).unwrap();
    let tests = safety.tests().unwrap();
    for path in ["check/a.py", "tests/x/y.py", "deep/test_a.py", "crate/tests/a.rs"] {
        assert!(tests.is_match(path), "{path}");
    }
    assert!(!tests.is_match("src/check.py") && !tests.is_match("python3"));
    let protected = safety.protected().unwrap();
    for path in
        ["safety.toml", "conftest.py", "a/b/conftest.py", ".githooks/pre-commit", "x/.cargo/config.toml"]
    {
        assert!(protected.is_match(path), "{path}");
    }
    assert!(!protected.is_match("src/safety.toml.rs"));
}

#[test]
fn files_to_run_are_found_in_a_tree() {
    let names = ["Cargo.toml", "src/lib.rs", "src/a.rs", "tests/a.rs", "sub/src/main.rs", "tests/deep/b.rs"];
    let safety = safety(&names, None).unwrap();
    assert_eq!(safety.files(&tree(&names)), ["src/lib.rs", "sub/src/main.rs", "tests/a.rs"]);
}
