//! Paths of a guest as text. Pure.

/// A name as text: bytes that are not UTF-8 as `\xHH`, and a backslash that would look like the beginning
/// of such as `\x5c`, so that no two names look alike.
pub(super) fn printable(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(at) = rest.find('\\') {
            let (before, from) = rest.split_at(at);
            text.push_str(before);
            text.push_str(if looks_escaped(from.as_bytes()) { "\\x5c" } else { "\\" });
            rest = &from[1..];
        }
        text.push_str(rest);
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

fn looks_escaped(text: &[u8]) -> bool {
    let hex = |at: usize| text.get(at).is_some_and(u8::is_ascii_hexdigit);
    text.get(1) == Some(&b'x') && hex(2) && hex(3)
}

/// The folders above a path, the nearest first, without the root.
pub(super) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.char_indices().rev().filter(|(at, letter)| *letter == '/' && *at > 0).map(|(at, _)| &path[..at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What `printable` promises can be undone.
    fn undone(text: &str) -> Vec<u8> {
        let (bytes, mut at, mut name) = (text.as_bytes(), 0, Vec::new());
        while at < bytes.len() {
            if bytes[at] == b'\\' && looks_escaped(&bytes[at..]) {
                name.push(u8::from_str_radix(&text[at + 2..at + 4], 16).unwrap());
                at += 4;
            } else {
                name.push(bytes[at]);
                at += 1;
            }
        }
        name
    }

    proptest! {
        #[test]
        fn no_two_names_look_alike(name in prop::collection::vec(
            prop_oneof![Just(b'\\'), Just(b'x'), Just(b'5'), Just(b'f'), Just(0xFF_u8), Just(0xC3), Just(0xA4), any::<u8>()],
            0..12,
        )) {
            prop_assert_eq!(undone(&printable(&name)), name);
        }
    }

    #[test]
    fn ordinary_names_stay_as_they_are() {
        assert_eq!(printable("grün \\ \\n".as_bytes()), "grün \\ \\n");
        assert_eq!(printable(b"\xff\\xff"), "\\xff\\x5cxff");
    }

    #[test]
    fn ancestors_end_below_the_root() {
        assert_eq!(ancestors("/a/b/c").collect::<Vec<_>>(), ["/a/b", "/a"]);
        assert_eq!(ancestors("/a").count() + ancestors("/").count(), 0);
    }
}
