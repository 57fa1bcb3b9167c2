//! Compiles the contracts with `protox`, so that no `protoc` is needed on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["pipemesh/node/v1/node.proto", "pipemesh/pipe/v1/pipe.proto"];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    let service = std::env::var_os("CARGO_FEATURE_GRPC").is_some();
    tonic_prost_build::configure()
        .build_client(service)
        .build_server(service)
        .compile_fds(descriptors)?;
    Ok(())
}
