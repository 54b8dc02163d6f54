//! A browser, as far as the site needs one: pages, forms, cookies; no redirects are followed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use super::wait::PATIENCE;

const URL_ENCODED: &str = "application/x-www-form-urlencoded";

/// What stands between the parts of a form with files, and in no part.
const BOUNDARY: &str = "----------boundary-of-the-form";

/// A browser that looks at one site.
#[derive(Clone, Debug)]
pub struct Browser {
    port: u16,
    cookies: BTreeMap<String, String>,
}

/// One page as it was received.
#[derive(Clone, Debug)]
pub struct Page {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Page {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

impl Browser {
    /// A browser without cookies.
    pub fn new(port: u16) -> Browser {
        Browser {
            port,
            cookies: BTreeMap::new(),
        }
    }

    /// Asks for a page.
    pub fn get(&mut self, path: &str) -> io::Result<Page> {
        self.ask("GET", path, URL_ENCODED, "")
    }

    /// Sends a form, with Django's token against forgery from the cookie.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> io::Result<Page> {
        let token = self.cookies.get("csrftoken").cloned().unwrap_or_default();
        let mut form = format!("csrfmiddlewaretoken={token}");
        for (name, value) in fields {
            let value: String = value
                .bytes()
                .map(|byte| {
                    if byte.is_ascii_alphanumeric() {
                        char::from(byte).to_string()
                    } else {
                        format!("%{byte:02X}")
                    }
                })
                .collect();
            write!(form, "&{name}={value}").expect("a string takes all");
        }
        self.ask("POST", path, URL_ENCODED, &form)
    }

    /// Sends a form with files: each a field, a name and the content.
    pub fn upload(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        files: &[(&str, &str, &str)],
    ) -> io::Result<Page> {
        let token = self.cookies.get("csrftoken").cloned().unwrap_or_default();
        let mut form = String::new();
        for (name, value) in [("csrfmiddlewaretoken", &token[..])].iter().chain(fields) {
            write!(
                form,
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            )
            .expect("a string takes all");
        }
        for (name, file, content) in files {
            write!(
                form,
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\
                 Content-Type: application/octet-stream\r\n\r\n{content}\r\n"
            )
            .expect("a string takes all");
        }
        form += &format!("--{BOUNDARY}--\r\n");
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        self.ask("POST", path, &kind, &form)
    }

    fn ask(&mut self, method: &str, path: &str, kind: &str, form: &str) -> io::Result<Page> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let host = format!("127.0.0.1:{}", self.port);
        let mut request =
            format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\nOrigin: http://{host}\r\n");
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if !cookies.is_empty() {
            request += &format!("Cookie: {}\r\n", cookies.join("; "));
        }
        if method == "POST" {
            request += &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", form.len());
        }
        request += "\r\n";
        request += form;
        stream.write_all(request.as_bytes())?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let page = parse(&String::from_utf8_lossy(&bytes))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP response"))?;
        for (_, cookie) in page
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"))
        {
            if let Some((name, value)) = cookie
                .split(';')
                .next()
                .and_then(|pair| pair.split_once('='))
            {
                if cookie.contains("Max-Age=0") {
                    self.cookies.remove(name);
                } else {
                    self.cookies.insert(name.into(), value.into());
                }
            }
        }
        Ok(page)
    }
}

fn parse(response: &str) -> Option<Page> {
    let (head, body) = response.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.map(|line| {
        line.split_once(": ")
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    });
    Some(Page {
        status,
        headers: headers.collect::<Option<_>>()?,
        body: body.to_owned(),
    })
}
