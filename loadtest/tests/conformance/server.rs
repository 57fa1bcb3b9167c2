//! A small HTTP server, which keeps what it is sent.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Server {
    pub(crate) url: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    /// It answers what it was sent, as JSON; `/slow` never, `/missing` with 404, `/text` with text, `/bytes`
    /// with bytes that are none, `/moved/3` with a redirection to `/moved/2`, and so on to `/arrived`.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let kept = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || serve(stream, &kept));
            }
        });
        Self { url, received }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        found.next().map(|(_, value)| value.as_str())
    }
}

fn serve(stream: TcpStream, kept: &Mutex<Vec<Received>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split_whitespace();
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim().split_once(": ") else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut request = Received {
            method,
            path,
            headers,
            body: Vec::new(),
        };
        let length = request
            .header("content-length")
            .map_or(0, |it| it.parse().unwrap());
        request.body.resize(length, 0);
        reader.read_exact(&mut request.body).ok()?;
        let moved = request.path.strip_prefix("/moved/");
        let moved = moved.and_then(|count| count.parse::<u32>().ok());
        let location = match moved {
            None => String::new(),
            Some(0) => "Location: /arrived\r\n".to_owned(),
            Some(count) => format!("Location: /moved/{}\r\n", count - 1),
        };
        let (status, kind, body) = match request.path.as_str() {
            "/slow" => {
                // Until the client gives up.
                let _ = reader.read(&mut [0]);
                return None;
            }
            "/missing" => ("404 Not Found", "text/plain", b"nothing here".to_vec()),
            "/text" => ("200 OK", "text/plain", b"some text".to_vec()),
            "/bytes" => ("200 OK", "application/octet-stream", vec![0, 255, 254, 7]),
            _ if moved.is_some() => ("302 Found", "text/plain", b"elsewhere".to_vec()),
            _ => {
                let echo = serde_json::json!({
                    "method": request.method,
                    "path": request.path,
                    "body": String::from_utf8_lossy(&request.body),
                    "agent": request.header("user-agent"),
                    "list": [{ "name": "first" }],
                });
                ("200 OK", "application/json", echo.to_string().into_bytes())
            }
        };
        kept.lock().unwrap().push(request);
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{location}X-Custom-Name: yes\r\nContent-Length: {length}\r\n\r\n"
        );
        let answer = [answer.as_bytes(), &body].concat();
        writer.write_all(&answer).ok()?;
    }
}
