fn main(){ 
 let p = std::env::var("AUTH_EBPF_OBJECT").unwrap_or("../target/bpf/auth-ebpf".into());
 std::fs::copy(&p, format!("{}/auth-ebpf", std::env::var("OUT_DIR").unwrap())).unwrap();
 println!("cargo::rerun-if-changed={p}");
}
