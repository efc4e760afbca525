//! A request that names its deployment, over one connection: through the whole application on a loopback socket to a
//! stub of an upstream, and to that stub itself.

use crate::{cache, config, or_exit};
use axum::Router as Routes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use axum::serve::ListenerExt;
use divan::{Bencher, bench};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::LazyLock;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1750000000,"model":"ok","choices":[{"index":0,"message":{"role":"assistant","content":"A brick builds walls, holds doors open, and keeps paper in its place."},"finish_reason":"stop"}],"usage":{"prompt_tokens":32,"completion_tokens":16,"total_tokens":48}}"#;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("the system gives threads"));

static STUB: LazyLock<SocketAddr> = LazyLock::new(|| {
    let answer = || async { ([(CONTENT_TYPE, "application/json")], ANSWER) };
    RUNTIME.block_on(serve(Routes::new().route("/v1/chat/completions", post(answer))))
});

static WAYPOST: LazyLock<SocketAddr> = LazyLock::new(|| {
    let provider = format!("name = \"stub\"\nkind = \"openai\"\nbase_url = \"http://{}/v1\"", *STUB);
    let deployment = "name = \"stub/ok\"\nprovider = \"stub\"\nmodel = \"ok\"\nclasses = [\"*\"]\ninput = 1.0\noutput = 1.0\n\
                      context_tokens = 100_000\nmax_output_tokens = 10_000";
    let others = "[[provider]]\nname = \"local\"\nenabled = false\n[[provider]]\nname = \"ollama\"\nenabled = false";
    let config = config(&format!("{others}\n[[provider]]\n{provider}\n[[deployment]]\n{deployment}\n"));
    RUNTIME.block_on(async {
        let router = or_exit(waypost::start::router(config, cache(), false).await);
        serve(waypost::http::app(router)).await
    })
});

#[bench(sample_count = 10_000, sample_size = 1)]
fn stub(bencher: Bencher) {
    ask(bencher, *STUB, "ok");
}

#[bench(sample_count = 10_000, sample_size = 1)]
fn waypost(bencher: Bencher) {
    ask(bencher, *WAYPOST, "stub/ok");
}

/// Serves from now on, at a free port.
async fn serve(routes: Routes) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    // As `http::serve` does.
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("a socket takes TCP_NODELAY"));
    tokio::spawn(async { axum::serve(listener, routes).await });
    address
}

fn ask(bencher: Bencher, address: SocketAddr, model: &str) {
    let body =
        format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"Name three uses of a brick."}}]}}"#);
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json");
    let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut connection = TcpStream::connect(address).expect("it listens");
    connection.set_nodelay(true).expect("a socket takes TCP_NODELAY");
    let mut buffer = vec![0; 64 * 1024];
    let answer = String::from_utf8_lossy(exchange(&mut connection, &request, &mut buffer)).into_owned();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(ANSWER), "{answer}");
    bencher.bench_local(|| exchange(&mut connection, &request, &mut buffer).len());
}

/// One whole answer, whose length its head names.
fn exchange<'a>(connection: &mut TcpStream, request: &str, buffer: &'a mut [u8]) -> &'a [u8] {
    connection.write_all(request.as_bytes()).expect("it reads");
    let mut filled = 0;
    loop {
        let count = connection.read(&mut buffer[filled..]).expect("it answers");
        assert!(count > 0, "closed within an answer");
        filled += count;
        if length(&buffer[..filled]).is_some_and(|length| filled >= length) {
            return &buffer[..filled];
        }
    }
}

/// Length of head and body, once the head is there.
fn length(received: &[u8]) -> Option<usize> {
    let head = received.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let fields = std::str::from_utf8(&received[..head]).ok()?;
    let value = fields.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    Some(head + value.parse::<usize>().ok()?)
}
