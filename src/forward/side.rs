//! Calls beside the traffic: shadows of experiments, and the judge. They take places like any other request, but only
//! where one is free at once, and nobody's answer waits for them.

use super::MAX_TEXT_BYTES;
use crate::chat::ChatRequest;
use crate::experiment::{Caller, ShadowAnswer};
use crate::providers::{Body, Call, sse};
use crate::router::Router;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::StreamExt;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// Makes calls beside the traffic. The router owns those who call through it, so it is held weakly.
pub struct SideCalls(pub Weak<Router>);

impl Caller for SideCalls {
    fn index(&self, deployment: &str) -> Option<usize> {
        self.0.upgrade()?.fleet.index_of(deployment)
    }

    fn call(&self, deployment: usize, request: Arc<ChatRequest>) -> BoxFuture<'static, Result<ShadowAnswer, String>> {
        let router = self.0.upgrade();
        async move {
            let router = router.ok_or("the server is stopping")?;
            let limit = router.config.server.request_timeout;
            let answered = tokio::time::timeout(limit, answer(&router, deployment, request)).await;
            answered.unwrap_or_else(|_| Err(format!("no answer in {} s", limit.as_secs())))
        }
        .boxed()
    }
}

async fn answer(router: &Arc<Router>, index: usize, request: Arc<ChatRequest>) -> Result<ShadowAnswer, String> {
    let pass = router.limits.admit(index, 0).map_err(|held| format!("held: {:?}", held.why))?;
    let began = Instant::now();
    let deployment = &router.fleet.all()[index];
    let call = Call { request, model: deployment.config.model.clone() };
    let reply = deployment.provider.send(call).await.map_err(|failure| failure.message)?;
    let mut answer = ShadowAnswer::default();
    let mut hear = |event: &sse::Event, text: String| {
        answer.usage = event.usage.or(answer.usage);
        if answer.text.len() + text.len() <= MAX_TEXT_BYTES {
            answer.text.push_str(&text);
        }
    };
    match reply.body {
        Body::Whole(body) => {
            let event = sse::read_whole(&body).ok_or("answered something that is no chat completion")?;
            hear(&event, sse::text_whole(&body));
        }
        Body::Events(mut events) => {
            let mut ended = false;
            while let Some(event) = events.next().await {
                let bytes = event.map_err(|failure| failure.message)?;
                let event = sse::read(&bytes);
                if event.error || event.garbage {
                    return Err("its stream broke off".into());
                }
                ended |= event.finished || event.done;
                hear(&event, sse::text(&bytes).0);
            }
            if !ended {
                return Err("its stream ended without an end".into());
            }
        }
    }
    answer.ms = began.elapsed().as_secs_f64() * 1e3;
    answer.cost = answer.usage.and_then(|usage| deployment.config.cost(&usage));
    pass.answered(answer.usage.map(|usage| usage.total()), None);
    Ok(answer)
}
