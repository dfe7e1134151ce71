//! The one `HttpProxy` that all listeners share, taken out of the service in which Pingora wraps it.

use std::sync::Arc;

use pingora::apps::HttpServerOptions;
use pingora::proxy::{HttpProxy, http_proxy_service_with_name_custom};
use pingora::server::configuration::ServerConf;
use pingora::services::listening::Service;

use crate::authorities;
use crate::proxy::Gateway;
use crate::proxy::upstream::connector::Http1Connector;

/// Maximum idle connections to servers for each worker.
const POOL_PER_WORKER: usize = 1024;
/// Pingora counts attempts too; Tollgate's own count decides.
const ATTEMPTS_MAX: usize = 1_000;

/// Builds it, for this many workers.
pub(super) fn proxy(gateway: Gateway, workers: usize) -> Arc<HttpProxy<Gateway, Http1Connector>> {
    let conf = ServerConf {
        threads: workers,
        upstream_keepalive_pool_size: POOL_PER_WORKER,
        max_retries: ATTEMPTS_MAX,
        ca_file: authorities::ca_file(),
        ..ServerConf::default()
    };
    let unused = |_, _, _: &_| -> std::pin::Pin<Box<dyn Future<Output = _> + Send>> { Box::pin(async { None }) };
    let name = "Tollgate";
    let service = http_proxy_service_with_name_custom(&Arc::new(conf), gateway, name, Http1Connector, Arc::new(unused));
    let mut application = application(service);
    let mut options = HttpServerOptions::default();
    // The stage `admit` refuses it, answers and counts it.
    options.allow_connect_method_proxying = true;
    application.server_options = Some(options);
    Arc::new(application)
}

/// Takes the proxy out of its service. A proxy with its own connector can only be built inside one, and the rest is not
/// needed: `listen` accepts.
fn application<A>(service: Service<A>) -> A {
    let service = std::mem::ManuallyDrop::new(service);
    let application = service.app_logic().expect("a new service has its application");
    #[allow(unsafe_code)]
    // SAFETY: the service is never used again nor dropped, so the application has one owner: the caller.
    unsafe {
        std::ptr::read(application)
    }
}
