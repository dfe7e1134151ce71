//! Access to the admin listener: the token, and no access for web pages.
//!
//! A browser lets any page send requests to a loopback address, and a page can make its own name resolve to it (DNS
//! rebinding). So a `Host` must be the listener's IP address (any address if it listens on all), `localhost` or this
//! machine's name, with the listener's port. An `Origin`, which browsers send and tools do not, must be that same host.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::problem;
use base::bearer;

/// Lets a request through, or answers 401 or 403.
pub async fn check(
    State((state, address)): State<(super::State, SocketAddr)>,
    request: Request,
    next: Next,
) -> Response {
    let authority = request.uri().authority().map(|a| a.as_str().to_owned());
    if !is_ours(authority.as_deref(), request.headers(), address) {
        return problem(StatusCode::FORBIDDEN, "foreign_origin", "Host or Origin is not this admin listener.");
    }
    let open = matches!(request.uri().path(), "/healthz" | "/readyz");
    let snapshot = state.snapshot.load();
    let token = snapshot.config.admin.as_ref().and_then(|admin| admin.token.as_ref());
    if let (false, Some(token)) = (open, token)
        && !bearer::sent(request.headers()).is_some_and(|sent| bearer::equal(sent, &token.0))
    {
        let mut answer = problem(StatusCode::UNAUTHORIZED, "no_token", "Send the admin token: Authorization: Bearer …");
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        return answer;
    }
    drop(snapshot);
    next.run(request).await
}

fn is_ours(authority: Option<&str>, headers: &HeaderMap, address: SocketAddr) -> bool {
    let host = headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    let named = authority.or(host).is_some_and(|host| names_us(host, address));
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    named
        && origin.is_none_or(|origin| {
            origin
                .strip_prefix("http://")
                .is_some_and(|host| Some(host) == authority.or(host_of(headers)) && names_us(host, address))
        })
}

fn host_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

/// Whether `host[:port]` can only be this listener.
fn names_us(authority: &str, address: SocketAddr) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, "80"),
    };
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let ours = match literal {
        Ok(ip) => {
            address.ip().is_unspecified() || ip == address.ip() || (ip.is_loopback() && address.ip().is_loopback())
        }
        Err(_) => host.eq_ignore_ascii_case("localhost") || is_this_machine(host),
    };
    ours && port.parse() == Ok(address.port())
}

fn is_this_machine(host: &str) -> bool {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    !name.is_empty() && host.eq_ignore_ascii_case(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_that_are_this_listener_pass() {
        let ours = "127.0.0.1:9900".parse().unwrap();
        for (host, expected) in [
            ("127.0.0.1:9900", true),
            ("localhost:9900", true),
            ("[::1]:9900", true),
            ("127.0.0.1", false),
            ("127.0.0.1:80", false),
            ("evil.example:9900", false),
            ("10.0.0.1:9900", false),
            ("", false),
        ] {
            assert_eq!(names_us(host, ours), expected, "{host}");
        }
        assert!(names_us("10.0.0.1:9900", "0.0.0.0:9900".parse().unwrap()));
        assert!(names_us("127.0.0.1", "127.0.0.1:80".parse().unwrap()));
    }

    #[test]
    fn a_foreign_origin_is_refused() {
        let ours = "127.0.0.1:9900".parse().unwrap();
        let with = |origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("host", "127.0.0.1:9900".parse().unwrap());
            headers.insert("origin", origin.parse().unwrap());
            is_ours(None, &headers, ours)
        };
        assert!(with("http://127.0.0.1:9900"));
        assert!(!with("http://evil.example") && !with("null") && !with("http://localhost:9900"));
        assert!(!is_ours(None, &HeaderMap::new(), ours), "no Host at all");
    }
}
