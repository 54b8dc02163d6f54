//! The web servers: how each is started, and what it cannot do.

/// Of those that send each request on a connection of its own.
const ONE_EACH: Shortfall = Shortfall {
    case: "connections are kept",
    seen: &["5 connections for 5 requests"],
    why: "It opens a connection for each request, which costs a few microseconds on the same machine.",
    is_rare: false,
};

/// A web server of Debian 12.
#[derive(Debug)]
pub struct Server {
    pub name: &'static str,
    /// What users copy, in `packaging/web-servers`.
    pub file: &'static str,
    /// What the file is put into: its name and its text. `@SITE@` stands for the file.
    pub frame: (&'static str, &'static str),
    /// Parts of the file that are otherwise here, and what they are.
    pub edits: &'static [(&'static str, &'static str)],
    /// A program that the file names, in the same folder.
    pub script: Option<&'static str>,
    /// Run in the foreground; `@FRAME@` and `@SITE@` stand for the files.
    pub command: &'static [&'static str],
    pub shortfalls: &'static [Shortfall],
}

/// A case that a server does not pass, for a reason of its own.
#[derive(Debug)]
pub struct Shortfall {
    pub case: &'static str,
    /// Parts of what the case says; one of them is enough.
    pub seen: &'static [&'static str],
    /// The reason, for users.
    pub why: &'static str,
    /// It is seen now and then only.
    pub is_rare: bool,
}

pub const NGINX: Server = Server {
    name: "nginx",
    file: "nginx.conf",
    frame: ("frame.conf", include_str!("frames/nginx.conf")),
    edits: &[],
    script: None,
    command: &["nginx", "-e", "stderr", "-c", "@FRAME@"],
    shortfalls: &[],
};

pub const LIGHTTPD: Server = Server {
    name: "lighttpd",
    file: "lighttpd.conf",
    frame: ("frame.conf", include_str!("frames/lighttpd.conf")),
    edits: &[],
    script: None,
    command: &["lighttpd", "-D", "-f", "@FRAME@"],
    shortfalls: &[ONE_EACH],
};

pub const APACHE: Server = Server {
    name: "Apache, mod_proxy_fcgi",
    file: "apache.conf",
    frame: ("frame.conf", include_str!("frames/apache.conf")),
    edits: &[],
    script: None,
    command: &["apache2", "-D", "FOREGROUND", "-f", "@FRAME@"],
    shortfalls: &[],
};

pub const CADDY: Server = Server {
    name: "Caddy",
    file: "Caddyfile",
    frame: ("Frame", include_str!("frames/Caddyfile")),
    edits: &[],
    script: None,
    command: &[
        "caddy",
        "run",
        "--adapter",
        "caddyfile",
        "--config",
        "@FRAME@",
    ],
    shortfalls: &[
        ONE_EACH,
        Shortfall {
            case: "error after the headers",
            seen: &["the answer seems whole"],
            why: "Caddy 2.6 writes \"aborting with incomplete response\" into its log, and ends the answer as if it were whole.",
            is_rare: false,
        },
    ],
};

pub const HAPROXY: Server = Server {
    name: "HAProxy",
    file: "haproxy.cfg",
    frame: ("frame.cfg", include_str!("frames/haproxy.cfg")),
    edits: &[],
    script: None,
    command: &["haproxy", "-db", "-f", "@FRAME@", "-f", "@SITE@"],
    shortfalls: &[Shortfall {
        case: "chunked body",
        seen: &["Your browser sent an invalid request."],
        why: "HAProxy hands on only bodies whose length is announced, and refuses others with 400.",
        is_rare: false,
    }],
};

pub const HAPROXY_MULTIPLEXING: Server = Server {
    name: "HAProxy, multiplexing",
    // The pool is not even asked whether it can.
    edits: &[(
        "option get-values",
        "option mpxs-conns\n    option max-reqs 8",
    )],
    ..HAPROXY
};

pub const H2O: Server = Server {
    name: "H2O",
    file: "h2o.conf",
    frame: ("frame.conf", include_str!("frames/h2o.conf")),
    edits: &[],
    script: None,
    command: &["h2o", "-c", "@FRAME@"],
    shortfalls: &[Shortfall {
        case: "error after the headers",
        seen: &["the answer seems whole"],
        why: "H2O 2.2 ends the answer as if it were whole, however its connection to the pool ends.",
        is_rare: false,
    }],
};

pub const FCGID: Server = Server {
    name: "Apache, mod_fcgid",
    file: "apache-fcgid.conf",
    script: Some("site.fcgi"),
    shortfalls: &[
        ONE_EACH,
        Shortfall {
            case: "error after the headers",
            seen: &["the answer seems whole"],
            why: "mod_fcgid 2.3 writes \"FastCGI server closed connection\" into its log, and ends the answer as if it were whole.",
            is_rare: false,
        },
        Shortfall {
            case: "file that becomes shorter",
            seen: &["bytes of the file comes"],
            why: "Apache puts a page about an error behind what mod_fcgid has got, and ends the answer as if it were whole.",
            is_rare: false,
        },
    ],
    ..APACHE
};

pub const CGI: Server = Server {
    name: "`cgi-fcgi`",
    file: "cgi-fcgi.conf",
    script: Some("site.cgi"),
    shortfalls: &[
        ONE_EACH,
        Shortfall {
            case: "chunked body",
            // Apache says so if it still has a part of the body then.
            seen: &["the answer is broken off", "\"0 same\""],
            why: "`cgi-fcgi` reads only bodies whose length is announced: the application gets an empty one.",
            is_rare: false,
        },
        Shortfall {
            case: "100 MB down",
            seen: &[
                "the answer is garbled",
                "the answer is broken off",
                " bytes",
            ],
            why: "`cgi-fcgi` 2.4 loses its place in an answer if the header of a record reaches it in two parts, as happens now and then in long answers over TCP.",
            is_rare: true,
        },
        Shortfall {
            case: "error after the headers",
            seen: &["the answer seems whole"],
            why: "The end of `cgi-fcgi` is all that a web server sees, whichever the reason.",
            is_rare: false,
        },
    ],
    ..APACHE
};
