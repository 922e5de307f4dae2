// memset and memcpy, which the compiler calls: 64 bytes a round. Those that come with it go by eight. Accesses are unaligned, so
// memory is normal, and SCTLR_EL1.A clear: true of all that Rust code runs with. Each end is written by accesses of its own, which
// overlap what is between.

.section .text.string, "ax"

// x0 to, w1 byte, x2 count; returns x0
.balign 64
.global memset
memset:
    dup     v0.16b, w1
    add     x4, x0, x2                      // the end
    cmp     x2, #16
    b.lo    3f
    cmp     x2, #64
    b.hi    1f
    str     q0, [x0]
    stur    q0, [x4, #-16]
    cmp     x2, #32
    b.ls    5f
    str     q0, [x0, #16]
    stur    q0, [x4, #-32]
    ret
1:  str     q0, [x0]
    bic     x3, x0, #15
    add     x3, x3, #16                     // aligned from here on
    sub     x2, x4, x3
    subs    x2, x2, #64
    b.ls    2f
0:  stp     q0, q0, [x3]
    stp     q0, q0, [x3, #32]
    add     x3, x3, #64
    subs    x2, x2, #64
    b.hi    0b
2:  stp     q0, q0, [x4, #-64]
    stp     q0, q0, [x4, #-32]
    ret
3:  tbz     x2, #3, 4f
    str     d0, [x0]
    stur    d0, [x4, #-8]
    ret
4:  tbz     x2, #2, 6f
    str     s0, [x0]
    stur    s0, [x4, #-4]
    ret
6:  cbz     x2, 5f
    strb    w1, [x0]
    tbz     x2, #1, 5f
    stur    h0, [x4, #-2]
5:  ret

// x0 to, x1 from, x2 count; returns x0. They do not overlap.
.balign 64
.global memcpy
memcpy:
    add     x4, x1, x2                      // the ends
    add     x5, x0, x2
    cmp     x2, #16
    b.lo    3f
    cmp     x2, #64
    b.hi    1f
    ldr     q0, [x1]
    ldur    q1, [x4, #-16]
    cmp     x2, #32
    b.ls    0f
    ldr     q2, [x1, #16]
    ldur    q3, [x4, #-32]
    str     q2, [x0, #16]
    stur    q3, [x5, #-32]
0:  str     q0, [x0]
    stur    q1, [x5, #-16]
    ret
1:  mov     x6, x0
    sub     x2, x2, #64                     // the last 64 are left for the end
2:  ldp     q0, q1, [x1]
    ldp     q2, q3, [x1, #32]
    add     x1, x1, #64
    stp     q0, q1, [x6]
    stp     q2, q3, [x6, #32]
    add     x6, x6, #64
    subs    x2, x2, #64
    b.hi    2b
    ldp     q0, q1, [x4, #-64]
    ldp     q2, q3, [x4, #-32]
    stp     q0, q1, [x5, #-64]
    stp     q2, q3, [x5, #-32]
    ret
3:  tbz     x2, #3, 4f
    ldr     x6, [x1]
    ldur    x7, [x4, #-8]
    str     x6, [x0]
    stur    x7, [x5, #-8]
    ret
4:  tbz     x2, #2, 6f
    ldr     w6, [x1]
    ldur    w7, [x4, #-4]
    str     w6, [x0]
    stur    w7, [x5, #-4]
    ret
6:  cbz     x2, 5f
    lsr     x3, x2, #1
    ldrb    w6, [x1]
    ldrb    w7, [x1, x3]
    ldurb   w8, [x4, #-1]
    strb    w6, [x0]
    strb    w7, [x0, x3]
    sturb   w8, [x5, #-1]
5:  ret
