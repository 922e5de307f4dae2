set positional-arguments

target := "aarch64-unknown-none"
# Crates that only the host runs, and those that only boot: neither is built by a bare `cargo test`.
tools := "-p ashlar-runner -p figures -p index-reference -p laboratory -p mutate -p tlbmodel -p workloads"
apps := "-p bench -p hello -p index -p lab -p lab-linux -p ring -p store"
# As many as there are here: a GICv2 has no more than 8.
cores := if num_cpus() =~ "^[1-8]$" { num_cpus() } else { "8" }
# The words for machines that are as they are and have their own number of cores, and for those of them that QEMU is to be.
board := "(^| )machine=(raspi|serial)"
emulated := "(^| )machine=raspi"
# What `just compare` asks.
questions := 'query="memory allocation" query=iterator phrase="raw pointer" phrase="of the"'

# List the commands
[private]
default:
    @just --list --unsorted

# Boot the default application on the host's number of cores, 8 at most; words: input=PATH, query="…", memory=1G, … (see README.md)
run *words: (setup words)
    cargo run --quiet --release -p index --target {{ target }} -- input=default {{ if words =~ board { "" } else { "cores=" + cores } }} "$@"

# Boot the application whose ring buffer has no end; words: messages=N, and those of the machine
ring *words: (setup words)
    cargo run --quiet --release -p ring --target {{ target }} -- "$@"

# Boot the key-value store that saves itself while it serves; words: records=N, requests=N, saves=N, out=DIR, and the machine's
store *words: (setup words)
    cargo run --quiet --release -p store --target {{ target }} -- {{ if words =~ board { "" } else { "cores=" + cores } }} "$@"

# Four cores on one region, every byte checked, for so many seconds of the guest's time
soak seconds="600": setup
    cargo test --target {{ target }} --test soak -- seconds={{ seconds }} timeout=0

# Make what a Raspberry Pi 4 boots from in target/rpi4; words: app=NAME, sd=FILE (a whole card), input=PATH, boot arguments
image-rpi4 *words:
    @tools/setup --image tools/image-rpi4 "$@"

# Check the card and boot the emulated board from the files on it
test-image:
    @tools/setup --boards --image tools/test-image

# Run all tests: on the host, and booted under QEMU; with words, such as machine=raspi4b, those that boot
test *words: (setup words)
    {{ if words == "" { "cargo test" } else { "" } }}
    {{ if words == "" { "cargo test " + tools } else { "" } }}
    cargo test --target {{ target }} {{ if words == "" { "" } else { "--no-fail-fast" } }} -- "$@"
    cargo run --quiet --release -p hello --target {{ target }} -- memory=16M "$@"
    cargo run --quiet --release -p ring --target {{ target }} -- memory=64M messages=20000 "$@"
    cargo run --quiet --release -p store --target {{ target }} -- memory=128M cores=2 records=20000 requests=100000 "$@"
    cargo run --quiet --release -p lab --target {{ target }} -- memory=128M size=1M rounds=1 pmu cores=1 "$@"

# Boot all machines of docs/machines.md, through U-Boot too, and a Raspberry Pi 4 on its own tree and from its card; fetches what that takes
test-matrix:
    @tools/setup --boards --image tools/fetch u-boot
    cargo test --target {{ target }} --test every_machine --test entered_at_el3 --test boot --test power_off --test starts_anew
    cargo test --target {{ target }} --test every_machine -- loader=u-boot
    cargo test --target {{ target }} --test every_machine --test board --test cores --test threads -- machine=raspi4b
    cargo run --quiet --release -p index --target {{ target }} -- machine=raspi4b input=docs query=board
    tools/test-image

# Check format, lints and all tests
check: setup && test
    cargo fmt --all --check
    cargo clippy --all-targets -- -D warnings
    cargo clippy {{ tools }} --all-targets -- -D warnings
    cargo clippy -p ashlar --all-targets --target {{ target }} -- -D warnings
    cargo clippy {{ apps }} --target {{ target }} -- -D warnings

# Boot the default application with QEMU waiting for GDB; prints GDB's command
debug *words: (setup words)
    cargo run --quiet --release -p index --target {{ target }} -- input=default gdb=on "$@"

# Compare the application's answers on the default input with a plain host program's
compare: setup
    cargo run --quiet --release -p index --target {{ target }} -- input=default {{ questions }} > target/answers.txt
    cargo run --quiet --release -p index-reference -- input="$(ls -t target/ashlar-input/*.cpio | head -n 1)" guest=target/answers.txt {{ questions }}

# Measure every figure in guest instructions; prints a table and writes target/bench.json
bench: setup
    cargo run --quiet --release -p figures

# Boot an application and count what a core's TLBs would miss; words: tlb=a53, tlb=n1,check=1, those of the application (docs/tlb-model.md)
tlb app="index" *words:
    @tools/setup --tlb
    shift; cargo run --quiet --release -p {{ app }} --target {{ target }} -- {{ if app == "index" { "input=default" } else { "" } }} tlb=a72 "$@"

# Check the TLB model against theory, and every test's hits against its tables: no invalidation is missing
test-tlb:
    @tools/setup --tlb
    cargo test -p tlbmodel
    cargo test --target {{ target }} --no-fail-fast -- tlb=a72,check=1

# Run the same workloads on Ashlar and on Debian's Linux in the same machine, into one table and target/bench-linux.json; words: quick, part=NAME,…, size=64M, rounds=5
bench-linux *words: setup
    cargo run --quiet --release -p laboratory -- compare "$@"

# Measure all that is exact, beside Linux and without each mechanism: one page, target/report/index.html, and the data; words: quick, size=512M
report *words:
    @tools/setup --tlb
    cargo run --quiet --release -p laboratory -- report "$@"

# Fail if one of a few exact figures is more than 3 % worse than tools/laboratory/baseline.json has it for this Rust and this QEMU
bench-gate:
    @tools/setup --tlb
    cargo run --quiet --release -p laboratory -- gate

# Make what is measured now the baseline of this Rust and this QEMU
bench-accept:
    @tools/setup --tlb
    cargo run --quiet --release -p laboratory -- accept

# Put each listed mistake into a copy of the tree and expect the tests to notice; words: names of mistakes
mutate *names: setup
    cargo run --quiet --release -p mutate -- "$@"

# Remove what was built
clean:
    cargo clean

# Bring what building and running needs; says nothing when all is there
setup words="":
    @tools/setup {{ if words =~ emulated { "--boards" } else { "" } }}
