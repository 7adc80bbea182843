//! What the metrics endpoint answers to a request.
use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Scrape;
use crate::view::openmetrics::{self, Exposition};

/// OpenMetrics 1.0, section "Protocol Negotiation".
const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// How long the daemon may take: less than the client has, so that it is told.
const PATIENCE: Duration = Duration::from_secs(5);

type Answer = Response<Full<Bytes>>;

/// Answers one request. Its body, if any, is not looked at; of the answer to HEAD hyper sends the head.
pub(super) async fn answer<B>(
    request: Request<B>,
    scrapes: &mpsc::Sender<Scrape>,
) -> Result<Answer, Infallible> {
    let answer = match (request.uri().path(), request.method()) {
        _ if !is_meant(&request) => {
            refusal(StatusCode::MISDIRECTED_REQUEST, "Ask for localhost, 127.0.0.1 or [::1].")
        }
        ("/metrics", &Method::GET | &Method::HEAD) => match timeout(PATIENCE, scrape(scrapes)).await {
            Ok(Some(exposition)) => shown(exposition),
            Ok(None) => refusal(StatusCode::SERVICE_UNAVAILABLE, "The daemon is stopping: start it again."),
            Err(_) => refusal(StatusCode::SERVICE_UNAVAILABLE, "The daemon is busy: see its log."),
        },
        ("/metrics", _) => {
            let mut answer =
                refusal(StatusCode::METHOD_NOT_ALLOWED, "The metrics can only be read: use GET.");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            answer
        }
        _ => refusal(StatusCode::NOT_FOUND, "There is nothing but /metrics here."),
    };
    Ok(answer)
}

/// Whether a request names this machine, or nothing. One that names another has come from a web page, whose name was made to
/// lead here (DNS rebinding), so that a browser lets the page read the answer.
fn is_meant<B>(request: &Request<B>) -> bool {
    let Some(host) = request.headers().get(HOST) else { return true };
    let Ok(authority) = Authority::try_from(host.as_bytes()) else { return false };
    let host = authority.host().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|addr: IpAddr| addr.is_loopback())
}

async fn scrape(scrapes: &mpsc::Sender<Scrape>) -> Option<Exposition> {
    let (reply, answered) = oneshot::channel();
    scrapes.send(Scrape { reply }).await.ok()?;
    answered.await.ok()
}

fn shown(exposition: Exposition) -> Answer {
    match openmetrics::text(exposition) {
        Ok(text) => with_type(StatusCode::OK, OPENMETRICS, text.into()),
        Err(_) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "The metrics cannot be written: report this."),
    }
}

fn refusal(status: StatusCode, sentence: &str) -> Answer {
    with_type(status, PLAIN, format!("{sentence}\n").into())
}

fn with_type(status: StatusCode, content: HeaderValue, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content);
    answer
}
