/** Collects the tensors of a family, block by block. */
import type { FamilyTensor, RowMap, StoredPart } from './family.js';

/** A shape and the rule behind it, for error messages. */
export interface Size {
  value: number;
  rule: string;
}

const inOrder: RowMap = { first: 0, inner: 1, innerStride: 0, middle: 1, middleStride: 0, outerStride: 1 };

export class TensorList {
  readonly tensors: FamilyTensor[] = [];

  /** `name` without the name of the block and without ".weight" or ".bias". */
  constructor(private readonly block: (layer: number) => string) {}

  /** Outside the blocks. */
  add(name: string, role: number, sizes: Size[], added = 0): void {
    this.push(name, role, 0, sizes, { added });
  }

  vector(layer: number, name: string, role: number, size: Size, added = 0): void {
    this.push(this.block(layer) + name, role, layer, [size], { added });
  }

  matrix(layer: number, name: string, role: number, rows: Size, columns: Size): void {
    this.push(`${this.block(layer)}${name}.weight`, role, layer, [rows, columns], {});
  }

  /** A matrix and, unless `biasRole` is null, its bias. */
  linear(layer: number, name: string, [role, biasRole]: readonly [number, number | null], rows: Size, columns: Size): void {
    this.matrix(layer, name, role, rows, columns);
    if (biasRole !== null) this.vector(layer, `${name}.bias`, biasRole, rows);
  }

  /** The gain and bias of a layer norm. */
  layerNorm(layer: number, name: string, [gainRole, biasRole]: readonly [number, number], size: Size): void {
    this.vector(layer, `${name}.weight`, gainRole, size);
    this.vector(layer, `${name}.bias`, biasRole, size);
  }

  /** The same as `linear`, stored as [columns, rows]. */
  transposed(layer: number, name: string, [role, biasRole]: readonly [number, number], rows: Size, columns: Size): void {
    this.vector(layer, `${name}.bias`, biasRole, rows);
    const whole = `${this.block(layer)}${name}.weight`;
    const stored = { name: whole, shape: [columns.value, rows.value], rows: inOrder, transposed: true };
    this.push(whole, role, layer, [rows, columns], { stored });
  }

  /**
   * One of the parts of a stored tensor `from` of `total` rows: a matrix with `columns`, a vector without. `every`: in runs of
   * `run` rows that start this many rows apart, by default one run.
   */
  part(
    layer: number,
    name: string,
    role: number,
    rows: Size,
    columns: Size | null,
    from: { name: string; total: number; first: number; run?: number; every?: number; transposed?: boolean },
  ): void {
    const { total, first, run = 1, every = 1, transposed = false } = from;
    const shape = columns === null ? [total] : transposed ? [columns.value, total] : [total, columns.value];
    const stored: StoredPart = {
      name: this.block(layer) + from.name,
      shape,
      rows: { ...inOrder, first, inner: run, innerStride: run === 1 ? 0 : 1, outerStride: every },
      transposed,
    };
    this.push(this.block(layer) + name, role, layer, columns === null ? [rows] : [rows, columns], { stored });
  }

  private push(name: string, role: number, layer: number, sizes: Size[], more: { stored?: StoredPart; added?: number }): void {
    const { stored, added = 0 } = more;
    this.tensors.push({
      name,
      role,
      layer,
      shape: sizes.map(({ value }) => value),
      shapeRule: sizes.map(({ rule }) => rule).join(', '),
      ...(stored === undefined ? {} : { stored }),
      ...(added === 0 ? {} : { added }),
    });
  }
}
