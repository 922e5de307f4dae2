// From one thread to another, both in kernel mode. What a call may destroy is not kept (AAPCS64 6.1); an exception frame or
// a gate has kept the application's. SP_EL0 and the thread pointer are the thread's own, so is FPCR.

.equ SWITCH_SIZE,       192                 // `Switched` in threads.rs

.section .text.switch, "ax"

// x0  where to leave the stack pointer
// x1  the stack pointer of the thread to go on with
.global switch_stacks
.balign 64
switch_stacks:
    sub     sp, sp, #SWITCH_SIZE
    stp     x19, x20, [sp, #0]
    stp     x21, x22, [sp, #16]
    stp     x23, x24, [sp, #32]
    stp     x25, x26, [sp, #48]
    stp     x27, x28, [sp, #64]
    stp     x29, x30, [sp, #80]
    stp     d8, d9, [sp, #96]
    stp     d10, d11, [sp, #112]
    stp     d12, d13, [sp, #128]
    stp     d14, d15, [sp, #144]
    mrs     x2, sp_el0
    mrs     x3, tpidr_el0
    stp     x2, x3, [sp, #160]
    mrs     x2, fpcr
    mrs     x3, fpsr
    stp     x2, x3, [sp, #176]
    mov     x2, sp
    str     x2, [x0]

    mov     sp, x1
    ldp     x19, x20, [sp, #0]
    ldp     x21, x22, [sp, #16]
    ldp     x23, x24, [sp, #32]
    ldp     x25, x26, [sp, #48]
    ldp     x27, x28, [sp, #64]
    ldp     x29, x30, [sp, #80]
    ldp     d8, d9, [sp, #96]
    ldp     d10, d11, [sp, #112]
    ldp     d12, d13, [sp, #128]
    ldp     d14, d15, [sp, #144]
    ldp     x2, x3, [sp, #160]
    msr     sp_el0, x2
    msr     tpidr_el0, x3
    ldp     x2, x3, [sp, #176]
    msr     fpcr, x2
    msr     fpsr, x3
    add     sp, sp, #SWITCH_SIZE
    ret

// Where a new thread comes to: x29 is zero, so that backtraces end here.
.global begin_thread
.balign 64
begin_thread:
    mov     x30, xzr
    bl      run_thread
    udf     #0
