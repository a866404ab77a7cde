// The flags of WebGPU, which TypeScript's own library lacks.
declare const GPUBufferUsage: { MAP_READ: number; COPY_DST: number; UNIFORM: number };
declare const GPUMapMode: { READ: number };
declare const GPUShaderStage: { COMPUTE: number };
declare const GPUTextureUsage: {
  COPY_SRC: number; COPY_DST: number; TEXTURE_BINDING: number; STORAGE_BINDING: number; RENDER_ATTACHMENT: number;
};
