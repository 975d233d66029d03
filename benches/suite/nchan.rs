//! nchan at its best: one worker, no logs, long keep-alives, no more history than a resuming poll needs.

use std::net::SocketAddr;
use std::path::Path;

/// An nginx configuration for nchan, and for `return 200` of the same sizes.
pub fn configuration(directory: &Path, address: SocketAddr) -> String {
    let directory = directory.display();
    let waiting = "x".repeat(100);
    let published = "x".repeat(68);
    let subscribe: String = [
        "stream:http-chunked",
        "raw:http-raw-stream",
        "sse:eventsource",
        "websocket:websocket",
        "poll:longpoll",
        "interval:intervalpoll",
        "oldest:longpoll",
    ]
    .iter()
    .filter_map(|pair| pair.split_once(':'))
    .map(|(path, kind)| {
        let first = if path == "oldest" { "oldest" } else { "newest" };
        format!(
            "    location ~ ^/{path}/(.+)$ {{ nchan_subscriber {kind}; nchan_channel_id $1; \
                 nchan_subscriber_first_message {first}; nchan_subscriber_timeout 0; }}\n"
        )
    })
    .collect();
    format!(
        "load_module /usr/lib/nginx/modules/ngx_nchan_module.so;\n\
         daemon off;\nworker_processes 1;\nworker_rlimit_nofile 20000;\nuser root;\n\
         pid {directory}/nginx.pid;\nerror_log {directory}/error.log crit;\n\
         events {{ worker_connections 19900; use epoll; multi_accept on; }}\n\
         http {{\n  access_log off;\n  tcp_nodelay on;\n  keepalive_requests 1000000000;\n  keepalive_timeout 1h;\n\
         \x20 client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fcgi;\n\
         \x20 uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;\n\
         \x20 nchan_shared_memory_size 256M;\n  nchan_message_buffer_length 100;\n\
         \x20 server {{\n    listen {address} backlog=4096 reuseport;\n\
         \x20   location = /healthz {{ return 200 \"ok\\n\"; }}\n\
         \x20   location = /return/publish {{ return 201 \"{published}\"; }}\n\
         \x20   location = /return/waiting {{ return 200 \"{waiting}\"; }}\n\
         \x20   location = /return/nothing {{ return 304; }}\n\
         \x20   location ~ ^/pub/(.+)$ {{ nchan_publisher; nchan_channel_id $1; }}\n\
         {subscribe}  }}\n}}\n"
    )
}
