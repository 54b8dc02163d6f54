//! The web servers: how each is started, and what it cannot do.

/// A web server of Debian 12.
pub struct Server {
    pub name: &'static str,
    /// What users copy, in `packaging/web-servers`.
    pub file: &'static str,
    /// What the file is put into: its name and its text. `@SITE@` stands for the file.
    pub frame: (&'static str, &'static str),
    /// A part of the file that is otherwise here, and what it is.
    pub edit: Option<(&'static str, &'static str)>,
    /// Run in the foreground; `@FRAME@` and `@SITE@` stand for the files.
    pub command: &'static [&'static str],
    pub shortfalls: &'static [Shortfall],
}

/// A case that a server does not pass, for a reason of its own.
pub struct Shortfall {
    pub case: &'static str,
    /// A part of what the case says.
    pub seen: &'static str,
    /// The reason, for users.
    pub why: &'static str,
}

pub const NGINX: Server = Server {
    name: "nginx",
    file: "nginx.conf",
    frame: ("frame.conf", include_str!("frames/nginx.conf")),
    edit: None,
    command: &["nginx", "-e", "stderr", "-c", "@FRAME@"],
    shortfalls: &[],
};

pub const LIGHTTPD: Server = Server {
    name: "lighttpd",
    file: "lighttpd.conf",
    frame: ("frame.conf", include_str!("frames/lighttpd.conf")),
    edit: None,
    command: &["lighttpd", "-D", "-f", "@FRAME@"],
    shortfalls: &[],
};

pub const APACHE: Server = Server {
    name: "Apache, mod_proxy_fcgi",
    file: "apache.conf",
    frame: ("frame.conf", include_str!("frames/apache.conf")),
    edit: None,
    command: &["apache2", "-D", "FOREGROUND", "-f", "@FRAME@"],
    shortfalls: &[],
};

pub const CADDY: Server = Server {
    name: "Caddy",
    file: "Caddyfile",
    frame: ("Frame", include_str!("frames/Caddyfile")),
    edit: None,
    command: &[
        "caddy",
        "run",
        "--adapter",
        "caddyfile",
        "--config",
        "@FRAME@",
    ],
    shortfalls: &[Shortfall {
        case: "error after the headers",
        seen: "the answer seems whole",
        why: "Caddy 2.6 writes \"aborting with incomplete response\" into its log, and ends the answer as if it were whole.",
    }],
};

pub const HAPROXY: Server = Server {
    name: "HAProxy",
    file: "haproxy.cfg",
    frame: ("frame.cfg", include_str!("frames/haproxy.cfg")),
    edit: None,
    command: &["haproxy", "-db", "-f", "@FRAME@", "-f", "@SITE@"],
    shortfalls: &[Shortfall {
        case: "chunked body",
        seen: "Your browser sent an invalid request.",
        why: "HAProxy hands on only bodies whose length is announced, and refuses others with 400.",
    }],
};

pub const HAPROXY_MULTIPLEXING: Server = Server {
    name: "HAProxy, multiplexing asked for",
    edit: Some((
        "option get-values",
        "option get-values\n    option mpxs-conns\n    option max-reqs 8",
    )),
    ..HAPROXY
};
