// Exception vectors (Arm ARM D1.3.1). SPSel is the mode bit: the application runs with SP_EL0, the kernel with SP_EL1,
// so the vector group says who was interrupted.

// `Frame` in exception.rs.
.equ FRAME_SYSTEM,      240                 // x30, SP_EL0, ELR, SPSR
.equ FRAME_FP_STATE,    272
.equ FRAME_RECORD,      288                 // x29, ELR: a frame record, so that backtraces pass through
.equ FRAME_SP,          304
.equ FRAME_VECTORS,     320
.equ FRAME_SIZE,        832
// `Core` in percore.rs.
.equ CORE_SCRATCH,      0
.equ CORE_STACK,        32
.equ CORE_OVERFLOW,     48

.macro save
    stp     x0, x1, [sp, #0]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x20, sp_el0
    mrs     x21, elr_el1
    mrs     x22, spsr_el1
    stp     x30, x20, [sp, #FRAME_SYSTEM]
    stp     x21, x22, [sp, #FRAME_SYSTEM + 16]
    stp     q0, q1, [sp, #FRAME_VECTORS]
    stp     q2, q3, [sp, #FRAME_VECTORS + 32]
    stp     q4, q5, [sp, #FRAME_VECTORS + 64]
    stp     q6, q7, [sp, #FRAME_VECTORS + 96]
    stp     q8, q9, [sp, #FRAME_VECTORS + 128]
    stp     q10, q11, [sp, #FRAME_VECTORS + 160]
    stp     q12, q13, [sp, #FRAME_VECTORS + 192]
    stp     q14, q15, [sp, #FRAME_VECTORS + 224]
    stp     q16, q17, [sp, #FRAME_VECTORS + 256]
    stp     q18, q19, [sp, #FRAME_VECTORS + 288]
    stp     q20, q21, [sp, #FRAME_VECTORS + 320]
    stp     q22, q23, [sp, #FRAME_VECTORS + 352]
    stp     q24, q25, [sp, #FRAME_VECTORS + 384]
    stp     q26, q27, [sp, #FRAME_VECTORS + 416]
    stp     q28, q29, [sp, #FRAME_VECTORS + 448]
    stp     q30, q31, [sp, #FRAME_VECTORS + 480]
    mrs     x22, fpsr
    mrs     x23, fpcr
    stp     x22, x23, [sp, #FRAME_FP_STATE]
    stp     x29, x21, [sp, #FRAME_RECORD]
    add     x29, sp, #FRAME_RECORD
.endm

.macro restore
    ldp     x22, x23, [sp, #FRAME_FP_STATE]
    msr     fpsr, x22
    msr     fpcr, x23
    ldp     q0, q1, [sp, #FRAME_VECTORS]
    ldp     q2, q3, [sp, #FRAME_VECTORS + 32]
    ldp     q4, q5, [sp, #FRAME_VECTORS + 64]
    ldp     q6, q7, [sp, #FRAME_VECTORS + 96]
    ldp     q8, q9, [sp, #FRAME_VECTORS + 128]
    ldp     q10, q11, [sp, #FRAME_VECTORS + 160]
    ldp     q12, q13, [sp, #FRAME_VECTORS + 192]
    ldp     q14, q15, [sp, #FRAME_VECTORS + 224]
    ldp     q16, q17, [sp, #FRAME_VECTORS + 256]
    ldp     q18, q19, [sp, #FRAME_VECTORS + 288]
    ldp     q20, q21, [sp, #FRAME_VECTORS + 320]
    ldp     q22, q23, [sp, #FRAME_VECTORS + 352]
    ldp     q24, q25, [sp, #FRAME_VECTORS + 384]
    ldp     q26, q27, [sp, #FRAME_VECTORS + 416]
    ldp     q28, q29, [sp, #FRAME_VECTORS + 448]
    ldp     q30, q31, [sp, #FRAME_VECTORS + 480]
    ldp     x30, x20, [sp, #FRAME_SYSTEM]
    ldp     x21, x22, [sp, #FRAME_SYSTEM + 16]
    msr     sp_el0, x20
    msr     elr_el1, x21
    msr     spsr_el1, x22
    ldp     x0, x1, [sp, #0]
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
.endm

// An entry that is never returned from: `kind` is 2 FIQ, 3 SError.
.macro application_entry kind
    .balign 128
    sub     sp, sp, #FRAME_SIZE
    stp     x0, x1, [sp]
    mov     x0, #\kind
    b       application_unexpected
.endm

// Before the first push, SP is checked against the bounds of the stack in use.
.macro kernel_entry kind
    .balign 128
    msr     tpidrro_el0, x0                 // no EL0 here: free for this
    mrs     x0, tpidr_el1
    stp     x1, x2, [x0, #CORE_SCRATCH]
    mov     x1, #\kind
    b       kernel_interrupted
.endm

// Entries that no exception can take: there is no EL0.
.macro impossible_entry
    .balign 128
1:  wfe
    b       1b
.endm

.section .text.vectors, "ax"
.balign 2048
.global exception_vectors
exception_vectors:
    .balign 128
    sub     sp, sp, #FRAME_SIZE
    b       application_synchronous
    .balign 128
    sub     sp, sp, #FRAME_SIZE
    b       application_irq
    application_entry 2
    application_entry 3
    kernel_entry 0
    kernel_entry 1
    kernel_entry 2
    kernel_entry 3
    .rept 8
    impossible_entry
    .endr

.balign 64
application_synchronous:
    save
    msr     daifclr, #4                     // SErrors are heard in kernel mode, whichever way it was entered
    mov     x0, sp
    mrs     x1, esr_el1
    mrs     x2, far_el1
    bl      application_exception
    restore
    add     sp, sp, #FRAME_SIZE
    eret

application_irq:
    save
    msr     daifclr, #4
    bl      application_interrupt
    restore
    add     sp, sp, #FRAME_SIZE
    eret

application_unexpected:
    mov     x1, x0
    ldr     x0, [sp]
    str     x1, [sp, #FRAME_SP]
    ldr     x1, [sp, #8]
    save
    ldr     x3, [sp, #FRAME_SP]
    str     xzr, [sp, #FRAME_SP]
    mov     x0, sp
    mrs     x1, esr_el1
    mrs     x2, far_el1
    bl      application_unexpected_exception
    udf     #0

// x0 the core, x1 the kind; scratch holds x1, x2; TPIDRRO_EL0 holds x0.
kernel_interrupted:
    str     x3, [x0, #CORE_SCRATCH + 16]
    str     x1, [x0, #CORE_SCRATCH + 24]
    mov     x1, sp
    tst     x1, #15
    b.ne    2f
    ldp     x2, x3, [x0, #CORE_STACK]
    add     x2, x2, #FRAME_SIZE
    cmp     x1, x2
    ccmp    x1, x3, #2, hs                  // below the frame's room: as if above the end
    b.ls    3f
    // Still on the overflow stack, in the middle of a report?
    ldp     x2, x3, [x0, #CORE_OVERFLOW]
    add     x2, x2, #FRAME_SIZE
    cmp     x1, x2
    ccmp    x1, x3, #2, hs
    b.ls    3f
2:  ldr     x3, [x0, #CORE_OVERFLOW + 8]
    mov     sp, x3
3:  sub     sp, sp, #FRAME_SIZE
    str     x1, [sp, #FRAME_SP]
    ldp     x1, x2, [x0, #CORE_SCRATCH]
    ldr     x3, [x0, #CORE_SCRATCH + 16]
    mrs     x0, tpidrro_el0
    save
    mrs     x0, tpidr_el1
    ldr     x3, [x0, #CORE_SCRATCH + 24]
    mov     x0, sp
    mrs     x1, esr_el1
    mrs     x2, far_el1
    bl      kernel_exception
    udf     #0
