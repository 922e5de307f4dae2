// From the boot loader to Rust: entered at EL2 or EL1 with the MMU off, the device tree's physical address in x0, at
// any 4 KiB-aligned address (Linux Documentation/arch/arm64/booting.rst). Everything before `upper_half` runs at its
// physical address, in the one page that the identity map covers, and uses neither exclusives nor a stack.
//
// x19  0 on the core that boots, 1 on the others
// x20  physical address of the device tree
// x21  physical address of the image
// x22  base of the image's level-3 tables (physical)
// x23  base of the image (virtual)
// x24  physical address of the application's empty root
// x25  the exception level that the core was entered at

// Leaf descriptors (Arm ARM D8.3): valid page, Normal memory (index 0), inner shareable, accessed, never for EL0.
.equ PAGE_TEXT,     0x0040000000000783      // UXN, read-only
.equ PAGE_RODATA,   0x0060000000000783      // UXN, PXN, read-only
.equ PAGE_DATA,     0x0060000000000703      // UXN, PXN
.equ TABLE,         3

// Normal write-back read/write-allocate; Device-nGnRE.
.equ MAIR,          0x04ff
// T0SZ = T1SZ = 25, 4 KiB granules, walks inner shareable write-back write-allocate in both halves. IPS is added.
.equ TCR,           (25 << 0) | (1 << 8) | (1 << 10) | (3 << 12) | (25 << 16) | (1 << 24) | (1 << 26) | (3 << 28) | (2 << 30)
// RES1 bits of Armv8.0: LSMAOE, nTLSMD, SPAN, EIS, TSCXT, EOS.
.equ SCTLR_OFF,     0x30d00800
// M, C, SA, SA0, I, nTWI, nTWE, WXN. Not A: the compiler keeps to aligned accesses, other people's code need not.
.equ SCTLR_ON,      SCTLR_OFF | (1 << 0) | (1 << 2) | (1 << 3) | (1 << 4) | (1 << 12) | (1 << 16) | (1 << 18) | (1 << 19)
.equ SPSR_EL1H,     0x3c5                   // D, A, I, F masked
.equ AFFINITY,      0xff00ffffff            // Aff3, Aff2, Aff1, Aff0 of MPIDR_EL1

// `Core` in percore.rs.
.equ CORE_STACK_END, 40
.equ CORE_AFFINITY, 64
.equ CORE_SIZE,     128
.equ CORES_SIZE,    64 * CORE_SIZE

.macro address register, symbol             // position-independent, reach 4 GiB
    adrp    \register, \symbol
    add     \register, \register, :lo12:\symbol
.endm

.section .head, "ax"
.global _start
_start:
    b       entry                           // code0
    nop                                     // code1
    .quad   0                               // text_offset
    .quad   __image_size
    .quad   0b1010                          // little-endian, 4 KiB pages, anywhere in memory
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0

// Where the firmware sends the other cores, when the first one asks for them.
.global secondary_entry
secondary_entry:
    mov     x19, #1
    b       any_entry

entry:
    mov     x19, xzr
    mov     x20, x0
any_entry:
    msr     daifset, #0xf
    adr     x21, _start
    tst     x21, #0xfff
    b.ne    park
    lsr     x0, x21, #39                    // the identity map's reach
    cbnz    x0, park

    mrs     x0, CurrentEL
    ubfx    x25, x0, #2, #2
    cmp     x25, #1
    b.eq    at_el1
    cmp     x25, #2
    b.ne    entered_at_el3

    // EL2: give everything to EL1 and drop there.
    ldr     x0, =SCTLR_OFF
    msr     sctlr_el1, x0
    mov     x0, #(1 << 31)                  // HCR_EL2.RW
    msr     hcr_el2, x0
    isb
    mov     x0, #3                          // EL1PCTEN, EL1PCEN: counter and timer untrapped
    msr     cnthctl_el2, x0
    msr     cntvoff_el2, xzr
    mov     x0, #0x33ff                     // RES1 bits; FP and SIMD untrapped
    msr     cptr_el2, x0
    msr     hstr_el2, xzr
    msr     vttbr_el2, xzr
    mrs     x0, midr_el1
    msr     vpidr_el2, x0
    mrs     x0, mpidr_el1
    msr     vmpidr_el2, x0
    mrs     x0, id_aa64dfr0_el1             // PMUVer: 0 is none, 15 is another kind
    ubfx    x0, x0, #8, #4
    sub     x1, x0, #1
    mov     x0, xzr
    cmp     x1, #14
    b.hs    1f
    mrs     x0, pmcr_el0
    ubfx    x0, x0, #11, #5                 // all event counters belong to EL1
1:  msr     mdcr_el2, x0
    mrs     x0, id_aa64pfr0_el1             // GIC: system register interface
    ubfx    x0, x0, #24, #4
    cbz     x0, 2f
    mrs     x0, S3_4_C12_C9_5               // ICC_SRE_EL2
    orr     x0, x0, #(1 << 0)               // SRE
    orr     x0, x0, #(1 << 3)               // Enable: EL1 may use it
    msr     S3_4_C12_C9_5, x0
    isb
    mrs     x0, S3_4_C12_C9_5
    tbz     x0, #0, 2f                      // the interrupt controller is driven by memory after all
    msr     S3_4_C12_C11_0, xzr             // ICH_HCR_EL2
2:  mov     x0, #SPSR_EL1H
    msr     spsr_el2, x0
    adr     x0, at_el1
    msr     elr_el2, x0
    eret

at_el1:
    msr     spsel, #1
    ldr     x0, =SCTLR_OFF
    msr     sctlr_el1, x0
    mov     x0, #(3 << 20)                  // FPEN
    msr     cpacr_el1, x0
    isb
    cbnz    x19, mmu_on                     // the tables are there

    // Zero the tables. Stale cache lines go before, so that none is written back over them, and after, so that none
    // read in meanwhile stays.
    address x0, __tables_start
    address x1, __tables_end
    bl      invalidate_to_coherency
    mov     x2, x0
1:  stp     xzr, xzr, [x2], #16
    cmp     x2, x1
    b.lo    1b

    // The image, page by page.
    address x22, __image_level3
    ldr     x23, =IMAGE_BASE
    ldr     x0, =__text_start
    ldr     x1, =__text_end
    ldr     x2, =PAGE_TEXT
    bl      map_pages
    ldr     x0, =__rodata_start
    ldr     x1, =__rodata_end
    ldr     x2, =PAGE_RODATA
    bl      map_pages
    ldr     x0, =__data_start
    ldr     x1, =__bss_end
    ldr     x2, =PAGE_DATA
    bl      map_pages
    ldr     x0, =__boot_stack_start
    ldr     x1, =__boot_stack_end
    bl      map_pages
    ldr     x0, =__overflow_stack_start
    ldr     x1, =__overflow_stack_end
    bl      map_pages
    ldr     x0, =__tables_start
    ldr     x1, =__tables_end
    bl      map_pages

    // Kernel root: image, fixed map and device window.
    address x0, __kernel_root
    address x1, __image_level2
    orr     x2, x1, #TABLE
    str     x2, [x0, #(511 * 8)]
    address x2, __device_level2
    orr     x3, x2, #TABLE
    str     x3, [x0, #(448 * 8)]
    address x3, __device_level3
    orr     x3, x3, #TABLE
    str     x3, [x2]
    address x2, __fixed_level3
    orr     x2, x2, #TABLE
    str     x2, [x1, #(510 * 8)]
    add     x2, x2, #4096
    str     x2, [x1, #(511 * 8)]
    orr     x2, x22, #TABLE
    ldr     x3, =__image_level3_count
1:  str     x2, [x1], #8
    add     x2, x2, #4096
    subs    x3, x3, #1
    b.ne    1b

    // Identity map: this page.
    address x0, __identity_level1
    address x1, __identity_level2
    address x2, __identity_level3
    orr     x3, x1, #TABLE
    ubfx    x4, x21, #30, #9
    str     x3, [x0, x4, lsl #3]
    orr     x3, x2, #TABLE
    ubfx    x4, x21, #21, #9
    str     x3, [x1, x4, lsl #3]
    ldr     x3, =PAGE_TEXT
    orr     x3, x3, x21
    ubfx    x4, x21, #12, #9
    str     x3, [x2, x4, lsl #3]

    dmb     sy
    address x0, __tables_start
    address x1, __tables_end
    bl      invalidate_to_coherency

    // MMU and caches on.
mmu_on:
    ldr     x0, =MAIR
    msr     mair_el1, x0
    ldr     x0, =TCR
    mrs     x1, id_aa64mmfr0_el1
    ubfx    x1, x1, #0, #4                  // PARange
    mov     x2, #5                          // 48 bits: what a 4 KiB granule reaches without LPA2
    cmp     x1, x2
    csel    x1, x1, x2, lo
    bfi     x0, x1, #32, #3                 // IPS
    msr     tcr_el1, x0
    address x0, __identity_level1
    msr     ttbr0_el1, x0
    address x0, __kernel_root
    msr     ttbr1_el1, x0
    address x24, __application_root
    isb
    tlbi    vmalle1
    ic      iallu
    dsb     nsh
    isb
    ldr     x0, =SCTLR_ON
    ldr     x1, =upper_half
    ldr     x2, =secondary_upper_half
    cmp     x19, #0
    csel    x1, x1, x2, eq
    msr     sctlr_el1, x0
    isb
    br      x1

upper_half:
    mov     x0, #1                          // the application's ASID
    bfi     x24, x0, #48, #16
    msr     ttbr0_el1, x24
    isb
    tlbi    vmalle1
    dsb     nsh
    isb
    address x0, exception_vectors
    msr     vbar_el1, x0
    address x0, CORES
    msr     tpidr_el1, x0
    isb

    address x0, __bss_start
    address x1, __bss_end
1:  stp     xzr, xzr, [x0], #16
    stp     xzr, xzr, [x0], #16
    stp     xzr, xzr, [x0], #16
    stp     xzr, xzr, [x0], #16
    cmp     x0, x1
    b.lo    1b

    address x0, __boot_stack_end
    mov     sp, x0
    mov     x29, xzr                        // where backtraces end
    mov     x30, xzr
    mov     x0, x20
    mov     x1, x21
    mov     x2, x25
    b       start_kernel

// Another core: it finds itself among those that were called, by its affinity (`Core` in percore.rs).
secondary_upper_half:
    mov     x0, #1                          // the application's ASID
    bfi     x24, x0, #48, #16
    msr     ttbr0_el1, x24                  // nothing; what the identity map was is global, and goes here alone
    isb
    tlbi    vmalle1
    dsb     nsh
    isb
    address x0, exception_vectors
    msr     vbar_el1, x0
    ldr     x1, =AFFINITY
    mrs     x2, mpidr_el1
    and     x2, x2, x1
    orr     x2, x2, #(1 << 31)
    address x0, CORES
    add     x3, x0, #CORES_SIZE
1:  ldr     x1, [x0, #CORE_AFFINITY]
    cmp     x1, x2
    b.eq    2f
    add     x0, x0, #CORE_SIZE
    cmp     x0, x3
    b.lo    1b
    b       park
2:  msr     tpidr_el1, x0
    ldr     x1, [x0, #CORE_STACK_END]
    mov     sp, x1
    isb
    mov     x29, xzr
    mov     x30, xzr
    b       start_secondary

// EL3 is the firmware's: what a core, its caches and the interrupt controller need there differs from machine to machine. Says so on
// the UART of a machine that is known, by which of the known places has a PL011 (its identification, DDI 0183 3.3.13): one that the
// firmware has set up.
entered_at_el3:
    mrs     x0, mpidr_el1
    ldr     x1, =AFFINITY
    tst     x0, x1
    b.ne    park                            // where all cores come at once, the first one speaks
    ldr     x1, =0x09000000                 // QEMU's virt
    bl      is_pl011
    b.eq    1f
    ldr     x1, =0xfe201000                 // Raspberry Pi 4
    bl      is_pl011
    b.ne    park
1:  adr     x2, el3_message
2:  ldrb    w0, [x2], #1
    cbz     w0, park
3:  ldr     w3, [x1, #0x18]                 // UARTFR
    tbnz    w3, #5, 3b                      // TXFF
    str     w0, [x1]
    b       2b

// Whether a PL011 is at x1: `eq` if so. Spends x2 to x4.
is_pl011:
    add     x2, x1, #0xfe0
    ldr     w3, [x2]                        // UARTPeriphID0, 1, 2: 0x11, 0x10, and Arm's last four bits
    ldr     w4, [x2, #4]
    bfi     w3, w4, #8, #8
    ldr     w4, [x2, #8]
    bfi     w3, w4, #16, #4
    ldr     w4, =0x41011
    cmp     w3, w4
    ret

el3_message:
    .ascii  "ashlar: entered at EL3, the firmware's exception level; it runs from EL2 or EL1: boot the raw image, "
    .asciz  "or through the firmware's own stub\r\n"
    .balign 4

park:
    wfe
    b       park

// Maps the image's pages [x0, x1) (virtual) with the descriptor bits in x2. Spends x3 to x5.
map_pages:
    sub     x3, x0, x23
    add     x4, x21, x3
    orr     x4, x4, x2
    add     x3, x22, x3, lsr #9             // eight bytes of table to a page
    sub     x5, x1, x0
1:  cbz     x5, 2f
    str     x4, [x3], #8
    add     x4, x4, #4096
    sub     x5, x5, #4096
    b       1b
2:  ret

// Drops the data cache's lines of [x0, x1), to the point of coherency. Spends x2 to x4.
invalidate_to_coherency:
    mrs     x2, ctr_el0
    ubfx    x2, x2, #16, #4                 // DminLine: log2 of words
    mov     x3, #4
    lsl     x3, x3, x2
    mov     x4, x0
1:  dc      ivac, x4
    add     x4, x4, x3
    cmp     x4, x1
    b.lo    1b
    dsb     sy
    ret

    .ltorg
