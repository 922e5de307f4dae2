//! A sparse matrix times a vector: rows of four values in random columns, stored by rows. The vector is read all over.
//!
//! All numbers are whole and small, so that sums are exact in whatever order.

use crate::lab::{Failure, Lab, Name, verify};
use crate::platform::Platform;
use crate::random::{Random, mix};
use core::hint::black_box;

/// Values of a row.
const FILLED: usize = 4;
/// Bytes that a row takes: its values, columns and start, and its places in both vectors.
const ROW: usize = 64;

/// What is in `row` of a matrix of `rows`: columns and values.
fn entries(row: usize, rows: usize) -> impl Iterator<Item = (u32, f64)> {
    let mut random = Random::new(row as u64);
    (0..FILLED).map(move |_| (random.below(rows) as u32, (1 + random.below(16)) as f64))
}

/// Place `column` of the vector.
fn place(column: u32) -> f64 {
    (1 + mix(column.into()) % 16) as f64
}

struct Matrix<'a> {
    starts: &'a mut [u32],
    columns: &'a mut [u32],
    values: &'a mut [f64],
}

fn fill(matrix: &mut Matrix<'_>, rows: usize) {
    for row in 0..rows {
        for (number, (column, value)) in entries(row, rows).enumerate() {
            matrix.columns[row * FILLED + number] = column;
            matrix.values[row * FILLED + number] = value;
        }
        matrix.starts[row + 1] = ((row + 1) * FILLED) as u32;
    }
}

#[inline]
fn multiply(matrix: &Matrix<'_>, vector: &[f64], product: &mut [f64]) {
    for (row, place) in product.iter_mut().enumerate() {
        let range = matrix.starts[row] as usize..matrix.starts[row + 1] as usize;
        let row = matrix.columns[range.clone()].iter().zip(&matrix.values[range]);
        *place = row.map(|(&column, value)| value * vector[column as usize]).sum();
    }
}

pub fn run<P: Platform>(lab: &Lab<'_, P>) -> Result<(), Failure> {
    let rows = lab.plan.size / ROW;
    let name = Name::new("spmv", lab.plan.size);
    let (mut starts, mut columns) = (lab.map((rows + 1) * 4)?, lab.map(rows * FILLED * 4)?);
    let (mut values, mut vector, mut product) = (lab.map(rows * FILLED * 8)?, lab.map(rows * 8)?, lab.map(rows * 8)?);
    let mut matrix = Matrix {
        starts: bytemuck::cast_slice_mut(&mut starts),
        columns: bytemuck::cast_slice_mut(&mut columns),
        values: bytemuck::cast_slice_mut(&mut values),
    };
    let vector: &mut [f64] = bytemuck::cast_slice_mut(&mut vector);
    let product: &mut [f64] = &mut bytemuck::cast_slice_mut(&mut product)[..rows];
    let ((), ticks) = lab.time(|| {
        fill(&mut matrix, rows);
        vector.iter_mut().zip(0..).for_each(|(value, column)| *value = place(column));
    });
    lab.once(name.part("setup"), ticks, 1);
    lab.rate(name, (rows * FILLED) as u64, || {
        multiply(&matrix, vector, product);
        black_box(&mut *product);
    });
    let expected = |row| entries(row, rows).map(|(column, value)| value * place(column)).sum::<f64>();
    verify(product.iter().enumerate().all(|(row, &sum)| sum == expected(row)), "a row's sum")
}
