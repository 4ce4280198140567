//! nginx. It has no JWT of its own, and stands for what a proxy costs without.

use crate::agent::Setup;
use crate::bench::gateway::upstream;

/// Where it listens.
pub const PORT: u16 = 10_443;

/// Its nginx.conf.
pub fn configuration(setup: &Setup) -> String {
    let [certificate, key, pid, temporary] = ["edge.pem", "edge.key", "nginx.pid", "nginx-temporary"]
        .map(|name| setup.path(name).display().to_string());
    let temporaries = ["client_body", "fastcgi", "proxy", "scgi", "uwsgi"]
        .map(|name| format!("    {name}_temp_path {temporary}-{name};\n"))
        .concat();
    format!(
        r#"user root;
worker_processes 1;
worker_rlimit_nofile {files};
daemon off;
pid {pid};
error_log stderr crit;

events {{
    worker_connections {files};
}}

http {{
    access_log off;
{temporaries}
    keepalive_requests 1000000000;
    keepalive_timeout 10m;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    # Large answers stay in memory.
    proxy_buffers 16 32k;
    proxy_busy_buffers_size 64k;
    proxy_max_temp_file_size 0;

    upstream app {{
        server {upstream};
        keepalive 128;
        keepalive_requests 1000000000;
    }}

    server {{
        listen 127.0.0.1:{PORT} ssl http2 backlog=4096;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;
        location / {{
            proxy_pass http://app;
        }}
    }}
}}
"#,
        files = 2 * super::CONNECTIONS,
        upstream = upstream::ADDRESS,
    )
}
