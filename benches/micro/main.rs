//! What the processor does without the kernel: parsing, book-keeping, encoding. No sockets.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use encke::broker::access::Tokens;
use encke::cli::token::sign::Signer;
use encke::config::{Algorithm, Config, KeyText, TokenKey};
use encke::hub::{Data, Hub, Message, Owner, Publication, Start};
use encke::id::{Epoch, Random};
use encke::time::{Instant, Wheel};
use encke::transport::write_envelope;
use encke::wire::head;
use std::hint::black_box;
use std::rc::Rc;

const PLAIN: &[u8] = b"GET /sub/ticks?as=poll&timeout=60 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
const BROWSER: &[u8] = b"GET /sub/stocks/AAPL,stocks/MSFT?as=sse&after=k3x9q:1042 HTTP/1.1\r\n\
    Host: push.example.com\r\nConnection: keep-alive\r\nAccept: text/event-stream\r\nCache-Control: no-store\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36\r\n\
    Origin: https://www.example.com\r\nSec-Fetch-Site: same-site\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n\
    Referer: https://www.example.com/\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-US,en;q=0.9\r\nLast-Event-ID: k3x9q:1042\r\n\r\n";

fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head");
    for (name, bytes) in [("plain", PLAIN), ("browser", BROWSER)] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut slots = head::slots();
                let end = head::find_end(black_box(bytes), 0).unwrap().unwrap();
                head::parse(&bytes[..end], &mut slots).unwrap().keep_alive
            });
        });
    }
    group.finish();
}

fn text(length: usize) -> Publication {
    Publication::of(Data::Text("x".repeat(length).into()))
}

/// One publication, and every subscriber pulling it.
fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish, pull and advance");
    for subscribers in [1, 1_000, 100_000] {
        let now = Instant::default();
        let mut hub = Hub::new(&Config::default(), Epoch::from_random(1), now);
        let mut seq = 0;
        for owner in 0..subscribers {
            hub.attach(now, Owner(owner), &["ticks"], Vec::new(), Start::Now).unwrap();
        }
        group.throughput(Throughput::Elements(subscribers.into()));
        group.bench_function(BenchmarkId::from_parameter(subscribers), |bencher| {
            bencher.iter(|| {
                seq += 1;
                hub.commit(now, "ticks", seq, text(100));
                while let Some(key) = hub.next_ready() {
                    let mut pulled: Vec<&Rc<Message>> = Vec::new();
                    hub.pull(now, key, 64, &mut pulled);
                    let last = pulled.last().unwrap().id.seq;
                    hub.advance(key, last);
                }
                hub.tick(now);
            });
        });
    }
    group.finish();
}

fn wheel(criterion: &mut Criterion) {
    criterion.bench_function("wheel: set and expire one of 100,000", |bencher| {
        let mut random = Random::new(1);
        let mut wheel = Wheel::new(Instant::default());
        (0..100_000).for_each(|key| wheel.set(key, Instant::from_millis(random.below(60_000))));
        let mut now = 0;
        bencher.iter(|| {
            now += 1;
            while let Some(key) = wheel.expire(Instant::from_millis(now)) {
                wheel.set(key, Instant::from_millis(now + 60_000));
            }
        });
    });
}

fn encoding(criterion: &mut Criterion) {
    let now = Instant::default();
    let mut hub = Hub::new(&Config::default(), Epoch::from_random(1), now);
    let key = hub.attach(now, Owner(0), &["ticks"], Vec::new(), Start::Now).unwrap();
    hub.commit(now, "ticks", 1, text(100));
    let mut pulled: Vec<&Rc<Message>> = Vec::new();
    hub.pull(now, key, 1, &mut pulled);
    criterion.bench_function("envelope of 100 bytes", |bencher| {
        bencher.iter(|| {
            let mut out = Vec::with_capacity(256);
            write_envelope(&mut out, black_box(pulled[0]));
            out
        });
    });
}

/// What a token costs that has not been seen, by algorithm, and one that has.
fn tokens(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("token");
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/");
    let read = |name: &str| std::fs::read(format!("{keys}{name}")).unwrap();
    let claims = serde_json::json!({
        "sub": "alice", "iat": 1_700_000_000, "exp": 1_700_003_600,
        "encke": {"subscribe": ["chat/*", "users/alice"], "publish": ["chat/lobby"]},
    });
    for (algorithm, private, public) in [
        (Algorithm::HS256, vec![b'k'; 32], vec![b'k'; 32]),
        (Algorithm::RS256, read("rsa.pem"), read("rsa.pub.pem")),
        (Algorithm::PS256, read("rsa.pem"), read("rsa.pub.pem")),
        (Algorithm::ES256, read("p256.pem"), read("p256.pub.pem")),
        (Algorithm::ES384, read("p384.pem"), read("p384.pub.pem")),
        (Algorithm::EdDSA, read("ed25519.pem"), read("ed25519.pub.pem")),
    ] {
        let row = TokenKey { algorithm: Some(algorithm), text: KeyText(public), ..TokenKey::default() };
        let mut tokens = Tokens::new(&Config { token_keys: vec![row], ..Config::default() }).unwrap();
        let token = Signer::read(&private).unwrap().token(algorithm, None, &claims).unwrap();
        group.bench_function(BenchmarkId::new("verified", algorithm.name()), |bencher| {
            bencher.iter(|| tokens.verify(black_box(&token), 1_700_000_000).unwrap());
        });
        if algorithm == Algorithm::HS256 {
            group.bench_function("remembered", |bencher| {
                bencher.iter(|| tokens.check(black_box(&token), 1_700_000_000).unwrap());
            });
        }
    }
    group.finish();
}

criterion_group!(micro, heads, fan_out, wheel, encoding, tokens);
criterion_main!(micro);
