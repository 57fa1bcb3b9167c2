//! As much HTTP as it takes to ask and to answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

pub(crate) fn ask(address: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("it is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it is text");
    let status = answer.split(' ').nth(1).and_then(|it| it.parse().ok());
    let (_, body) = answer.split_once("\r\n\r\n").expect(&answer);
    let body = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
    (status.expect(&answer), body)
}

/// Answers every request, each on a connection of its own, and tells afterwards what was asked.
pub(crate) fn serve(
    answer: impl Fn(&str) -> (u16, &'static str) + Send + 'static,
) -> (SocketAddr, impl Fn() -> Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (mut request, mut buffer) = (String::new(), [0; 1024]);
            while !request.contains("\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(count @ 1..) => request += &String::from_utf8_lossy(&buffer[..count]),
                    _ => break,
                }
            }
            let (status, body) = answer(&request);
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status} so\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            told.lock().expect("nobody panics with it").push(request);
        }
    });
    (address, move || {
        asked.lock().expect("nobody panics with it").clone()
    })
}
