//! The front door: HTTP/2 over TLS, a smuggler that is sent away, apps that prove who they are, and a limit that holds.
//!
//! Only a backend can show that nothing reached it: each counts requests that are not GET, and the load sends only GET.
//! A limit is judged by the time in which its app sent requests: the gateway took all of its decisions between the
//! first request and the last answer.

use std::time::Duration;

use http::{HeaderName, header};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Story;
use crate::client::Answer;
use crate::conf::{PARTNER_BURST, PARTNER_RATE, SHOP};
use crate::door::{Broken, Connection, H2, HTTP1};
use crate::payment::random;
use base::hex;

/// The header with the key of an app.
const KEY: HeaderName = HeaderName::from_static("x-api-key");
/// A path that needs one.
const PARTNERS: &str = "/partners/1";
/// Requests that are sent at once.
const AT_ONCE: u32 = 3 * PARTNER_BURST;
/// The time that a smuggled request has to come out.
const MOMENT: Duration = Duration::from_millis(100);
/// The time in which an app sends twice as many requests as it may.
const TWICE: Duration = Duration::from_secs(2);
/// The least share of what a limit allows that must be admitted. The rest is for a machine too busy to send in time.
const ADMITTED: f64 = 0.9;

/// The answers to one app.
#[derive(Default)]
struct Answers {
    /// Answered 200.
    admitted: u32,
    /// Answered 429 with a Retry-After of whole seconds, at least one.
    refused: u32,
    /// Any other answer.
    wrong: Vec<String>,
}

impl Story<'_> {
    pub(super) async fn front_door(&mut self) -> Result<(), String> {
        self.tell.act("The front door: TLS and HTTP/2, a smuggler, apps with keys and limits");
        self.protocols().await?;
        self.smuggle().await?;
        self.tell.say("what the configuration says of apps:");
        self.tell.quote(self.conf.front_door().trim_start());
        let begun = Instant::now();
        self.keys().await?;
        self.limit(begun).await?;
        self.turn("b2 killed, and back").await?;
        Ok(())
    }

    async fn protocols(&mut self) -> Result<(), String> {
        let door = self.visitor.door.clone();
        let tls = self.visitor.connection().await?.tls;
        let (both, old) = (door.picks(&[HTTP1, H2]).await?, door.picks(&[HTTP1]).await?);
        self.promise(
            both == H2 && old == HTTP1,
            format!("{tls}: ALPN picks {both} where a client offers it, and {old} where that is all"),
        );
        Ok(())
    }

    async fn smuggle(&mut self) -> Result<(), String> {
        let host = self.visitor.door.origin().replace("https://", "");
        let hidden = format!("POST /orders/hidden HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n");
        let body = format!("0\r\n\r\n{hidden}");
        let said = format!(
            "POST /orders/1 HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n{body}",
            body.len()
        );
        let before = self.posted().await?;
        let honest = self.visitor.ask("POST", "/orders/1", &[]).await?.status;
        let between = self.posted().await?;
        self.tell.say("a request in a request, by a Content-Length that Transfer-Encoding contradicts:");
        self.tell.quote(&said);
        let heard = self.visitor.door.raw(&said).await?;
        let answers = heard.matches("HTTP/1.1 ").count();
        self.visitor.answers += answers as u64;
        tokio::time::sleep(MOMENT).await;
        let after = self.posted().await?;
        let status = heard.lines().next().unwrap_or("no answer");
        self.promise(
            heard.starts_with("HTTP/1.1 400 ") && answers == 1,
            format!("{status}, and the connection closed"),
        );
        self.promise(
            honest == 200 && between == before + 1 && after == between,
            format!("an honest POST had reached a backend; of this one {} requests did", after - between),
        );
        Ok(())
    }

    /// The backends' requests that were not GET.
    async fn posted(&self) -> Result<u64, String> {
        let mut posted = 0;
        for backend in 0..SHOP {
            posted += self.knob(backend, "").await?.posted;
        }
        Ok(posted)
    }

    async fn keys(&mut self) -> Result<(), String> {
        let identity = self.secrets.identity.clone();
        let wrong = hex::encode(&random()?);
        let acme = self.visitor.ask("GET", PARTNERS, &[(KEY, &identity.acme)]).await?.status.as_u16();
        let other = self.visitor.ask("GET", PARTNERS, &[(KEY, &wrong)]).await?.status.as_u16();
        let none = self.visitor.status(PARTNERS).await?;
        self.promise(
            (acme, other, none) == (200, 401, 401),
            format!("GET {PARTNERS}: {acme} with acme's key, {other} with a wrong one, {none} without"),
        );
        let suspended = self.visitor.ask("GET", PARTNERS, &[(KEY, &identity.globex)]).await?;
        let status = suspended.status.as_u16();
        let told = suspended.body.contains(":app_suspended\"");
        self.promise(status == 403 && told, format!("globex is suspended: {status}, and its key is right"));
        Ok(())
    }

    /// Uses up the limit of acme, which has sent one request since it began, and goes on at twice the allowed rate.
    async fn limit(&mut self, begun: Instant) -> Result<(), String> {
        let (connection, key) = (self.visitor.connection().await?, self.secrets.identity.acme.clone());
        let mut asked = JoinSet::new();
        (0..AT_ONCE).for_each(|_| drop(asked.spawn(ask(connection.clone(), key.clone()))));
        let burst = self.answers(asked).await?;
        self.promise(
            burst.wrong.is_empty() && burst.admitted + 1 >= PARTNER_BURST && burst.refused > 0,
            format!(
                "{AT_ONCE} requests at once on one connection: {} answered, {} refused with 429 and Retry-After",
                burst.admitted, burst.refused
            ),
        );
        let mut ticks = interval(Duration::from_secs(1) / (2 * PARTNER_RATE));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut asked, since) = (JoinSet::new(), Instant::now());
        while since.elapsed() < TWICE {
            ticks.tick().await;
            asked.spawn(ask(connection.clone(), key.clone()));
        }
        let paced = self.answers(asked).await?;
        burst.wrong.iter().chain(&paced.wrong).take(3).for_each(|wrong| self.tell.quote(wrong));
        // One of them is the request with which its key opened the route.
        let admitted = 1 + burst.admitted + paced.admitted;
        let took = begun.elapsed().as_secs_f64();
        let may = f64::from(PARTNER_BURST) + f64::from(PARTNER_RATE) * took;
        let holds = f64::from(admitted) <= may && f64::from(admitted) >= ADMITTED * may;
        self.promise(
            paced.wrong.is_empty() && paced.refused > 0 && holds,
            format!(
                "then {} more at twice its rate: {admitted} in all in {took:.2} s, where {PARTNER_BURST} + \
                 {PARTNER_RATE} a second make {may:.1}",
                paced.admitted + paced.refused
            ),
        );
        Ok(())
    }

    async fn answers(&mut self, mut asked: JoinSet<Result<Answer, Broken>>) -> Result<Answers, String> {
        let mut answers = Answers::default();
        while let Some(answer) = asked.join_next().await {
            let answer = match answer.map_err(|e| e.to_string())? {
                Ok(answer) => answer,
                Err(Broken::Unsent(standing)) => return Err(format!("a connection is {standing:?}")),
                Err(Broken::Lost(why)) => return Err(why),
            };
            self.visitor.answers += 1;
            let wait = answer.headers.get(header::RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
            match answer.status.as_u16() {
                200 => answers.admitted += 1,
                429 if wait.is_some_and(|seconds: u64| seconds > 0) => answers.refused += 1,
                status => answers.wrong.push(format!("{status} {}", answer.body)),
            }
        }
        Ok(answers)
    }
}

async fn ask(connection: Connection, key: String) -> Result<Answer, Broken> {
    connection.ask("GET", PARTNERS, &[(KEY, &key)]).await
}
