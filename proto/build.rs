//! Compiles the contract to Rust with `protox`, so that no `protoc` is needed.

use std::error::Error;
use std::path::PathBuf;

const PACKAGES: [&str; 6] = ["vocabulary", "status", "ingestion", "graph", "rag", "recommendation"];

/// Further files of packages.
const FURTHER: [&str; 3] = ["rag/v1/answers", "recommendation/v1/lifecycle", "recommendation/v1/webhooks"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=attain");
    println!("cargo:rerun-if-changed=third_party");

    let packages = PACKAGES.iter().map(|package| format!("attain/{package}/v1/{package}.proto"));
    let files: Vec<String> = packages.chain(FURTHER.iter().map(|file| format!("attain/{file}.proto"))).collect();
    let mut compiler = protox::Compiler::new([".", "third_party"])?;
    // Comments become the OpenAPI descriptions.
    compiler.include_source_info(true).include_imports(true).open_files(&files)?;
    let descriptors = compiler.file_descriptor_set();

    let out_dir = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out_dir.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .compile_well_known_types(false)
        .codec_path("crate::codec::WholeCodec")
        // Most edges have none, and whole graphs of edges are read and moved.
        .boxed("attain.vocabulary.v1.Dependency.observed_latency")
        // Generated paths are relative to the packages of the house.
        .extern_path(".google.api.HttpBody", "crate::google::HttpBody")
        .extern_path(".attain.ingestion.v1.IngestDependenciesRequest", "crate::rows::IngestDependenciesRequest")
        .extern_path(".attain.ingestion.v1.GetTopologyResponse", "crate::rows::GetTopologyResponse")
        .compile_fds(descriptors)?;
    Ok(())
}
