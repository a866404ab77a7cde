// @ts-check
// Textures of WebGL2, behind the face that every back end shows to what loads scenes.

/**
 * Textures of a back end. Formats are those of TEXEL_BYTES; all are clamped to the edge, and what holds fractions (rgba8) is
 * linear between texels.
 * @typedef {object} Textures
 * @property {{ volume: number, plane: number }} limits longest edges
 * @property {(format: string, size: number[], isVolume?: boolean) => any} create width, height, and depth or layers
 * @property {(texture: any, place: number[], size: number[], data: Uint8Array) => void} write a box of texels at x, y, z
 * @property {(texture: any) => void} free
 */

export const TEXEL_BYTES = { rgba8: 4, rgba8ui: 4, rg8ui: 2, r8ui: 1 };

/** @implements {Textures} */
export class GlTextures {
  /** @param {WebGL2RenderingContext} gl */
  constructor(gl) {
    this.gl = gl;
    this.formats = {
      rgba8: [gl.RGBA8, gl.RGBA], rgba8ui: [gl.RGBA8UI, gl.RGBA_INTEGER], rg8ui: [gl.RG8UI, gl.RG_INTEGER],
      r8ui: [gl.R8UI, gl.RED_INTEGER],
    };
  }

  get limits() {
    const { gl } = this;
    return { volume: gl.getParameter(gl.MAX_3D_TEXTURE_SIZE), plane: gl.getParameter(gl.MAX_TEXTURE_SIZE) };
  }

  /** @param {string} format @param {number[]} size */
  create(format, [width, height, depth], isVolume = true) {
    const { gl } = this;
    const target = isVolume ? gl.TEXTURE_3D : gl.TEXTURE_2D_ARRAY;
    const [internal, external] = this.formats[format];
    const texture = gl.createTexture();
    gl.bindTexture(target, texture);
    gl.texStorage3D(target, 1, internal, width, height, depth);
    const filter = format === "rgba8" ? gl.LINEAR : gl.NEAREST;
    for (const [key, value] of [
      [gl.TEXTURE_MIN_FILTER, filter], [gl.TEXTURE_MAG_FILTER, filter],
      [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE], [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE], [gl.TEXTURE_WRAP_R, gl.CLAMP_TO_EDGE],
    ]) {
      gl.texParameteri(target, key, value);
    }
    return { texture, target, external };
  }

  /** @param {any} texture @param {number[]} place @param {number[]} size @param {Uint8Array} data */
  write(texture, [x, y, z], [width, height, depth], data) {
    const { gl } = this;
    const { target, external } = texture;
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.bindTexture(target, texture.texture);
    gl.texSubImage3D(target, 0, x, y, z, width, height, depth, external, gl.UNSIGNED_BYTE, data);
  }

  free({ texture }) {
    this.gl.deleteTexture(texture);
  }
}
