//! Connections and names on the host's side: where a name leads is looked at before anything goes there.

use super::policy::Policy;
use super::relay::Target;
use evalfleet_proto::network::Host;
use evalfleet_service::permit::is_inner;
use futures::future::BoxFuture;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a name may take.
const LOOKUP: Duration = Duration::from_secs(5);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// It may not be made.
    Refused(String),
    /// It could not be.
    Failed(String),
}

type Find = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync;

/// Who knows where names lead.
#[derive(Clone)]
pub(super) struct Resolver {
    find: Arc<Find>,
    /// Whether an address is one of this host's.
    is_own: fn(IpAddr) -> bool,
}

impl Resolver {
    /// The host's own.
    pub(super) fn of_host() -> Self {
        let find = |name: String| -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            Box::pin(async move {
                let found = tokio::net::lookup_host((name, 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            })
        };
        Self { find: Arc::new(find), is_own: is_own_address }
    }

    #[cfg(test)]
    pub(super) fn of_table(table: Vec<(&'static str, &'static str)>, own: fn(IpAddr) -> bool) -> Self {
        let find = move |name: String| -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            let found = table.iter().filter(|(known, _)| *known == name);
            let found: Vec<IpAddr> = found.map(|(_, address)| address.parse().unwrap()).collect();
            Box::pin(std::future::ready(Ok(found)))
        };
        Self { find: Arc::new(find), is_own: own }
    }

    /// Finds the addresses under which `name` may be reached, at `port` or at any.
    pub(super) async fn look_up(
        &self,
        policy: &Policy,
        name: &str,
        port: Option<u16>,
    ) -> Result<Vec<IpAddr>, Failure> {
        let found = timeout(LOOKUP, (self.find)(name.to_owned())).await;
        let found = match found {
            Ok(Ok(found)) if !found.is_empty() => found,
            Ok(Ok(_)) => return Err(Failure::Failed("has no address".to_owned())),
            Ok(Err(error)) => return Err(Failure::Failed(format!("cannot be resolved: {error}"))),
            Err(_) => return Err(Failure::Failed("took too long to resolve".to_owned())),
        };
        // Whoever owns a name decides where it leads; only a listed address leads inside.
        let listed = |address: IpAddr| {
            policy.allow.iter().any(|entry| {
                entry.host == Host::Address(address) && port.is_none_or(|port| entry.covers_port(port))
            })
        };
        let may = |address: &IpAddr| (!is_inner(*address) && !(self.is_own)(*address)) || listed(*address);
        let allowed: Vec<IpAddr> = found.iter().copied().filter(may).take(ADDRESSES_MAX).collect();
        match found.first() {
            Some(first) if allowed.is_empty() => Err(Failure::Refused(format!(
                "leads to {first}, which is this machine's or a private network's, and is not listed itself"
            ))),
            Some(_) | None => Ok(allowed),
        }
    }

    /// Makes a connection.
    pub(super) async fn dial(&self, policy: &Policy, target: &Target) -> Result<TcpStream, Failure> {
        let (addresses, port) = match target {
            Target::Address(address) => (vec![address.ip()], address.port()),
            Target::Name(name, port) => (self.look_up(policy, name, Some(*port)).await?, *port),
        };
        let mut last = Failure::Failed("has no address".to_owned());
        for address in addresses {
            match timeout(CONNECT, TcpStream::connect(SocketAddr::new(address, port))).await {
                Ok(Ok(stream)) => {
                    // What a guest writes at once is to go out at once.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => last = Failure::Failed(error.to_string()),
                Err(_) => last = Failure::Failed("took too long to connect".to_owned()),
            }
        }
        Err(last)
    }
}

/// Only an address of one's own can be bound to.
fn is_own_address(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(list: &[&str]) -> Policy {
        Policy { allow: list.iter().map(|text| text.parse().unwrap()).collect(), ..Policy::default() }
    }

    fn resolver() -> Resolver {
        let table = vec![
            ("good.org", "93.184.216.34"),
            ("bad.org", "127.0.0.1"),
            ("bad.org", "::ffff:10.0.0.1"),
            ("mixed.org", "10.0.0.1"),
            ("mixed.org", "93.184.216.34"),
            ("host.org", "8.8.8.8"),
        ];
        Resolver::of_table(table, |address| address == IpAddr::from([8, 8, 8, 8]))
    }

    async fn found(list: &[&str], name: &str, port: Option<u16>) -> Result<Vec<String>, Failure> {
        let found = resolver().look_up(&policy(list), name, port).await?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    #[tokio::test]
    async fn a_name_leads_only_where_names_may_lead() {
        assert_eq!(found(&["*.org"], "good.org", None).await.unwrap(), ["93.184.216.34"]);
        assert_eq!(found(&["*.org"], "mixed.org", None).await.unwrap(), ["93.184.216.34"]);
        assert!(matches!(found(&["*.org"], "bad.org", None).await, Err(Failure::Refused(_))));
        assert!(matches!(found(&["*.org"], "host.org", None).await, Err(Failure::Refused(_))));
        assert!(matches!(found(&["*.org"], "none.org", None).await, Err(Failure::Failed(_))));
    }

    #[tokio::test]
    async fn an_inner_address_is_reached_by_name_only_where_it_is_listed_itself() {
        let list = ["bad.org", "127.0.0.1:80"];
        assert_eq!(found(&list, "bad.org", Some(80)).await.unwrap(), ["127.0.0.1"]);
        assert!(matches!(found(&list, "bad.org", Some(81)).await, Err(Failure::Refused(_))));
        let error = resolver().dial(&policy(&["bad.org"]), &Target::Name("bad.org".into(), 80)).await;
        assert!(matches!(error, Err(Failure::Refused(_))));
    }

    #[test]
    fn ones_own_addresses_are_known() {
        assert!(is_own_address([127, 0, 0, 1].into()) && !is_own_address([192, 0, 2, 77].into()));
    }
}
