//! nginx as a backend that nobody here wrote: one process, which can be killed and stopped like any.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::client::Connection;
use super::wait::within;
use super::world::free_port;

/// An nginx of one process.
pub struct Nginx {
    pub port: u16,
    folder: TempDir,
    child: Child,
}

fn executable() -> PathBuf {
    let places = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx", "/usr/local/bin/nginx"];
    let found = places.into_iter().map(PathBuf::from).find(|path| path.exists());
    found.expect("nginx is missing; install it: sudo apt-get install nginx (or run scripts/test as root)")
}

impl Nginx {
    /// A server that answers every path with 200 and this text; nginx's variables work in it.
    pub fn start(text: &str) -> Nginx {
        Self::with("listen 127.0.0.1:$PORT;", &format!("return 200 '{text}';"), &[])
    }

    /// A server with this `listen` directive, which names `$PORT`, `location /` and files in its folder.
    pub fn with(listen: &str, location: &str, files: &[(&str, &str)]) -> Nginx {
        Self::started(("", listen, location), files)
    }

    /// A server with this in its `http` block and in `location /`.
    pub fn with_http(http: &str, location: &str) -> Nginx {
        Self::started((http, "listen 127.0.0.1:$PORT;", location), &[])
    }

    fn started(parts: (&str, &str, &str), files: &[(&str, &str)]) -> Nginx {
        for _ in 0..5 {
            if let Some(nginx) = Self::try_start(parts, files) {
                return nginx;
            }
        }
        panic!("nginx does not start");
    }

    fn try_start((http, listen, location): (&str, &str, &str), files: &[(&str, &str)]) -> Option<Nginx> {
        let folder = tempfile::Builder::new().prefix("tollgate-it-nginx-").tempdir().unwrap();
        files.iter().for_each(|(name, text)| fs::write(folder.path().join(name), text).unwrap());
        let port = free_port();
        fs::write(
            folder.path().join("nginx.conf"),
            config(http, &listen.replace("$PORT", &port.to_string()), location),
        )
        .unwrap();
        Self::run(folder, port)
    }

    /// Starts it in a folder that has its configuration; nothing where the port is taken.
    fn run(folder: TempDir, port: u16) -> Option<Nginx> {
        let child = Command::new(executable())
            .arg("-p")
            .arg(folder.path())
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut nginx = Nginx { port, folder, child };
        let up = within(super::wait::PATIENCE, || {
            if nginx.child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            Connection::to(port).is_ok().then_some(true)
        });
        if up == Some(true) {
            return Some(nginx);
        }
        let said = fs::read_to_string(nginx.folder.path().join("error.log")).unwrap_or_default();
        assert!(said.contains("Address already in use"), "nginx does not start: {said}");
        None
    }

    /// Its address in a configuration.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A path in its folder, which is its `root .` too.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same server started again, where this one was killed.
    pub fn again(&mut self) -> Nginx {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        Self::run(folder, self.port).expect("its port is still free")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(http: &str, listen: &str, location: &str) -> String {
    format!(
        "daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path .; proxy_temp_path .; fastcgi_temp_path .; uwsgi_temp_path .; scgi_temp_path .;
    {http}
    server {{ {listen} location / {{ {location} }} }}
}}
"
    )
}
