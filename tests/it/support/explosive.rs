//! Components that are small and correct, and that no compiler is done with in time: one of another's making could be so.

/// A number as WebAssembly writes it (LEB128).
fn number(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn section(id: u8, body: &[u8]) -> Vec<u8> {
    [&[id], &number(body.len())[..], body].concat()
}

/// Loops within loops, of which the innermost changes every local: each loop has a value of each local that differs, so
/// that a function of `loops + locals` instructions has `loops * locals` values.
fn function(loops: usize, locals: usize) -> Vec<u8> {
    const I32: u8 = 0x7f;
    let mut body = [&[1], &number(locals)[..], &[I32]].concat();
    body.extend([0x03, 0x40].repeat(loops));
    for local in (0..locals).map(number) {
        // local.get, i32.const 1, i32.add, local.set
        body.extend([&[0x20], &local[..], &[0x41, 1, 0x6a, 0x21], &local].concat());
    }
    // local.get 0, br_if 0, end
    body.extend([0x20, 0, 0x0d, 0, 0x0b].repeat(loops));
    body.push(0x0b);
    [number(body.len()), body].concat()
}

/// A component of one module that has so many of these functions.
fn component(functions: usize, loops: usize, locals: usize) -> Vec<u8> {
    let count = number(functions);
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        // One type: nothing is taken, nothing is given. All functions are of it.
        section(1, &[1, 0x60, 0, 0]),
        section(3, &[&count[..], &vec![0; functions]].concat()),
        section(10, &[count, function(loops, locals).repeat(functions)].concat()),
    ];
    // The module, and an instance of it.
    [b"\0asm\x0d\0\x01\0".to_vec(), section(1, &module.concat()), section(2, &[1, 0, 0, 0])].concat()
}

/// 1.8 MB whose compilation takes minutes of CPU time, and little memory.
pub fn of_time() -> Vec<u8> {
    component(200, 50, 1_000)
}

/// 80 kB whose compilation takes tens of GiB.
pub fn of_memory() -> Vec<u8> {
    component(1, 5_000, 5_000)
}
