//! STREAM's triad, `a = b + q·c`: every page is read to its end, so the TLB hardly matters. What differs here differs by chance.

use crate::lab::{Failure, Lab, Name, verify};
use crate::platform::Platform;
use core::hint::black_box;

const FACTOR: f64 = 3.0;

#[inline]
fn triad(to: &mut [f64], left: &[f64], right: &[f64]) {
    for ((to, left), right) in to.iter_mut().zip(left).zip(right) {
        *to = left + FACTOR * right;
    }
}

pub fn run<P: Platform>(lab: &Lab<'_, P>) -> Result<(), Failure> {
    let each = lab.plan.size / 4;
    let mut memory = [lab.platform.map(each)?, lab.platform.map(each)?, lab.platform.map(each)?];
    let [to, left, right] = memory.each_mut().map(|memory| bytemuck::cast_slice_mut::<u8, f64>(memory));
    for (number, (left, right)) in left.iter_mut().zip(right.iter_mut()).enumerate() {
        *left = (number & 0xffff) as f64;
        *right = (number & 0xff) as f64;
    }
    lab.rate(Name::new("triad", 3 * each), to.len() as u64, || {
        triad(to, left, right);
        black_box(&mut *to);
    });
    let right = |(number, &value): (usize, &f64)| value == ((number & 0xffff) + 3 * (number & 0xff)) as f64;
    verify(to.iter().enumerate().all(right), "a sum")
}
