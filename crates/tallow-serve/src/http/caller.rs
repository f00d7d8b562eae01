//! Who sends a request: the connection's address, the key in a header, and the number of the request.

use super::App;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// The sender of a request.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) address: IpAddr,
    /// The key of a header.
    pub(super) key: Option<String>,
}

impl Caller {
    /// The address or, where one client has many, what they have in common: the first 64 bits (RFC 4291).
    pub(super) fn network(&self) -> IpAddr {
        match self.address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from(network))
            }
            address => address,
        }
    }
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(peer)| peer.ip());
        let forwarded = app.config.behind_proxy.then(|| forwarded_for(&parts.headers)).flatten();
        Ok(Self {
            address: forwarded.unwrap_or(peer),
            key: key_of(&parts.headers),
        })
    }
}

/// The last address in `X-Forwarded-For`: the one that the proxy has seen. Those before it are the client's words.
fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?;
    last.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

/// The key in `Authorization: Bearer` or `X-Api-Key`.
fn key_of(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name)?.to_str().ok();
    let bearer = text(header::AUTHORIZATION.as_str()).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    bearer
        .or_else(|| text("x-api-key"))
        .filter(|key| !key.is_empty())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn networks_are_clients() {
        let network = |address: &str| {
            let address = address.parse().unwrap();
            Caller { address, key: None }.network().to_string()
        };
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(
            (network("10.1.2.3"), network("::ffff:10.1.2.3")),
            ("10.1.2.3".into(), "10.1.2.3".into())
        );
    }

    #[test]
    fn headers_are_read() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs.iter().map(|(name, value)| {
                let name = axum::http::HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            });
            pairs.collect::<HeaderMap>()
        };
        assert_eq!(
            key_of(&headers(&[("authorization", "bearer abc")])).as_deref(),
            Some("abc")
        );
        assert_eq!(key_of(&headers(&[("x-api-key", "abc")])).as_deref(), Some("abc"));
        assert_eq!(key_of(&headers(&[("authorization", "Basic abc")])), None);
        let forwarded = headers(&[("x-forwarded-for", "1.1.1.1, 2.2.2.2")]);
        assert_eq!(forwarded_for(&forwarded), Some(IpAddr::from([2, 2, 2, 2])));
        assert_eq!(forwarded_for(&headers(&[("x-forwarded-for", "me")])), None);
    }
}
