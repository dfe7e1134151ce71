//! Filters: what a route does to a request and its response, beside where it sends them.
//!
//! Each filter has one file with all of it: the form of its keys, their check, what differs from another revision, what
//! `tollgate explain` prints, and the function of its stage, which takes plain values and knows no proxy. The form of a
//! route (`file::route`) names the keys; the proxy calls the function.

pub mod access;
pub mod body_limit;
pub mod compression;
pub mod headers;
pub mod prefix;

use self::access::Access;
use self::body_limit::BodyLimit;
use self::compression::Compression;
use self::headers::HeaderRules;
use self::prefix::Prefix;
use crate::check::Check;
use crate::file::Item;
use crate::file::route::RouteForm;

/// The filters of a route.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filters {
    /// `allow`, `deny`
    pub access: Access,
    /// `strip_prefix`, `add_prefix`
    pub prefix: Prefix,
    /// `request_headers`
    pub request_headers: HeaderRules,
    /// `response_headers`
    pub response_headers: HeaderRules,
    /// `body_max`
    pub body_limit: BodyLimit,
    /// `compress`
    pub compression: Compression,
}

impl Filters {
    pub(crate) fn check(check: &mut Check<'_, '_>, route: &Item<RouteForm>) -> Filters {
        let form = &route.form;
        Filters {
            access: Access::check(check, form, route.whole),
            prefix: Prefix::check(form),
            request_headers: HeaderRules::check(check, &form.request_headers),
            response_headers: HeaderRules::check(check, &form.response_headers),
            body_limit: BodyLimit::check(form),
            compression: Compression::check(form),
        }
    }

    /// The keys whose values differ.
    pub fn changed(&self, old: &Filters) -> Vec<&'static str> {
        let Filters { access, prefix, request_headers, response_headers, body_limit, compression } = self;
        let mut keys = access.changed(&old.access);
        keys.extend(prefix.changed(&old.prefix));
        keys.extend(request_headers.changed("request_headers", &old.request_headers));
        keys.extend(response_headers.changed("response_headers", &old.response_headers));
        keys.extend(body_limit.changed(&old.body_limit));
        keys.extend(compression.changed(&old.compression));
        keys
    }

    /// The effects on a request, a line each; access and prefix are part of the decision itself. `forwards` says whether
    /// the request goes to a server, else the gateway answers it.
    pub fn explain(&self, forwards: bool) -> Vec<String> {
        let Filters { access: _, prefix: _, request_headers, response_headers, body_limit, compression } = self;
        let lines = [
            request_headers.explain("the request").filter(|_| forwards),
            body_limit.explain(),
            response_headers.explain("the response"),
            compression.explain().filter(|_| forwards),
        ];
        lines.into_iter().flatten().collect()
    }
}
