"""The float conversions LLVM calls for where the processor has no instruction for them.

Compilers' run-time libraries have these, but no Python process is sure to have such a library
loaded. Generators that care for speed do not rely on them: they round bfloat16 with vector integer
operations where "avx512bf16" is not among the features.

Doubles are narrowed in two steps, and to be rounded once they are first rounded to odd: Boldo and
Melquiond, "Emulation of FMA and Correctly Rounded Sums", IEEE Trans. Computers 57 (2008).
"""

from __future__ import annotations

NAMES = ("__extendhfsf2", "__truncsfhf2", "__truncsfbf2", "__truncdfhf2", "__truncdfbf2")

IR = """
; Half's fields moved to float's places are the value times 2^-112, subnormal or not.
define float @__extendhfsf2(half %x) nounwind {
  %h16 = bitcast half %x to i16
  %h = zext i16 %h16 to i32
  %magnitude = and i32 %h, 32767
  %sign16 = and i32 %h, 32768
  %sign = shl i32 %sign16, 16
  %moved = shl i32 %magnitude, 13
  %small = bitcast i32 %moved to float
  %scaled = fmul float %small, 0x46F0000000000000
  %finite = bitcast float %scaled to i32
  %special0 = or i32 %moved, 2139095040
  %isnan = icmp ugt i32 %magnitude, 31744
  %quiet = select i1 %isnan, i32 4194304, i32 0
  %special = or i32 %special0, %quiet
  %isspecial = icmp uge i32 %magnitude, 31744
  %bits = select i1 %isspecial, i32 %special, i32 %finite
  %signed = or i32 %bits, %sign
  %y = bitcast i32 %signed to float
  ret float %y
}

define internal i16 @half_bits(float %x) alwaysinline nounwind {
  %b = bitcast float %x to i32
  %a = and i32 %b, 2147483647
  %s0 = lshr i32 %b, 16
  %sign = and i32 %s0, 32768
  ; from 2^-14 on: new bias, round to nearest even at bit 13; what overflows becomes infinity
  %r0 = sub i32 %a, 939524096
  %l0 = lshr i32 %a, 13
  %lsb = and i32 %l0, 1
  %r1 = add i32 %r0, 4095
  %r2 = add i32 %r1, %lsb
  %normal = lshr i32 %r2, 13
  ; below: the spacing of floats at 0.5 is that of half's subnormals
  %fa = bitcast i32 %a to float
  %sum = fadd float %fa, 5.000000e-01
  %sb = bitcast float %sum to i32
  %subnormal = sub i32 %sb, 1056964608
  %issub = icmp ult i32 %a, 947912704
  %finite = select i1 %issub, i32 %subnormal, i32 %normal
  %p0 = and i32 %l0, 1023
  %nan = or i32 %p0, 32256
  %isnan = icmp ugt i32 %a, 2139095040
  %special = select i1 %isnan, i32 %nan, i32 31744
  %islarge = icmp uge i32 %a, 1199570944
  %m = select i1 %islarge, i32 %special, i32 %finite
  %h = or i32 %m, %sign
  %h16 = trunc i32 %h to i16
  ret i16 %h16
}

define internal i16 @bfloat_bits(float %x) alwaysinline nounwind {
  %b = bitcast float %x to i32
  %h0 = lshr i32 %b, 16
  %lsb = and i32 %h0, 1
  %r0 = add i32 %b, 32767
  %r1 = add i32 %r0, %lsb
  %rounded = lshr i32 %r1, 16
  %nan = or i32 %h0, 64
  %isnan = fcmp uno float %x, %x
  %h = select i1 %isnan, i32 %nan, i32 %rounded
  %h16 = trunc i32 %h to i16
  ret i16 %h16
}

; Toward zero, and odd if anything was lost: a second rounding then goes as the first would have.
define internal float @odd(double %x) alwaysinline nounwind {
  %f = fptrunc double %x to float
  %back = fpext float %f to double
  %bits = bitcast float %f to i32
  %xa = call double @llvm.fabs.f64(double %x)
  %ba = call double @llvm.fabs.f64(double %back)
  %up = fcmp ogt double %ba, %xa
  %one = zext i1 %up to i32
  %down = sub i32 %bits, %one
  %inexact = fcmp one double %back, %x
  %sticky = zext i1 %inexact to i32
  %result = or i32 %down, %sticky
  %y = bitcast i32 %result to float
  ret float %y
}

define half @__truncsfhf2(float %x) nounwind {
  %b = call i16 @half_bits(float %x)
  %y = bitcast i16 %b to half
  ret half %y
}

define half @__truncdfhf2(double %x) nounwind {
  %f = call float @odd(double %x)
  %b = call i16 @half_bits(float %f)
  %y = bitcast i16 %b to half
  ret half %y
}

define bfloat @__truncsfbf2(float %x) nounwind {
  %b = call i16 @bfloat_bits(float %x)
  %y = bitcast i16 %b to bfloat
  ret bfloat %y
}

define bfloat @__truncdfbf2(double %x) nounwind {
  %f = call float @odd(double %x)
  %b = call i16 @bfloat_bits(float %f)
  %y = bitcast i16 %b to bfloat
  ret bfloat %y
}

declare double @llvm.fabs.f64(double)
"""
