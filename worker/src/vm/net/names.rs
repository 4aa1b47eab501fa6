//! Addresses for names: one each, out of a range that nobody on the internet has (RFC 2544).

use std::net::Ipv4Addr;

/// The names of one VM that get an address.
const NAMES_MAX: usize = 1024;
/// The first address of 198.18.0.0/15, and one more.
const FIRST: u32 = 0xc612_0001;

/// Which name has which address.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<String>);

impl Names {
    /// The address of `name`; none when there are too many names.
    pub(super) fn address(&mut self, name: &str) -> Option<Ipv4Addr> {
        let known = self.0.iter().position(|known| known == name);
        let at = match known {
            Some(at) => at,
            None if self.0.len() < NAMES_MAX => {
                self.0.push(name.to_owned());
                self.0.len() - 1
            }
            None => return None,
        };
        Some(Ipv4Addr::from(FIRST + at as u32))
    }

    /// The name that has `address`.
    pub(super) fn name(&self, address: Ipv4Addr) -> Option<&str> {
        let at = u32::from(address).checked_sub(FIRST)?;
        self.0.get(at as usize).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_address_and_an_address_its_name() {
        let mut names = Names::default();
        let (a, b) = (names.address("a.org").unwrap(), names.address("b.org").unwrap());
        assert_ne!(a, b);
        assert_eq!(names.address("a.org"), Some(a));
        assert_eq!((names.name(a), names.name(b)), (Some("a.org"), Some("b.org")));
        assert_eq!(names.name(Ipv4Addr::new(198, 18, 1, 0)), None);
        assert_eq!(names.name(Ipv4Addr::UNSPECIFIED), None);
    }

    #[test]
    fn there_are_only_so_many() {
        let mut names = Names::default();
        assert!((0..NAMES_MAX).all(|n| names.address(&n.to_string()).is_some()));
        assert_eq!(names.address("one more"), None);
    }
}
