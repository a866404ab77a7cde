// @ts-check
// WebGL2: the context and the shader programs of either page.

import { t } from "./language.js";

/** @param {HTMLCanvasElement} canvas */
export function createContext(canvas) {
  const gl = canvas.getContext("webgl2", {
    alpha: false, antialias: false, depth: false, stencil: false, preserveDrawingBuffer: true,
    powerPreference: "high-performance",
  });
  if (!gl) throw new Error(t("This browser or device has no WebGL2, which the viewer needs."));
  return gl;
}

/** Marks what the GPU was given so far: a function that says whether it has done that. @param {WebGL2RenderingContext} gl */
export function mark(gl) {
  const sync = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
  gl.flush();
  return () => {
    if (gl.clientWaitSync(sync, 0, 0) === gl.TIMEOUT_EXPIRED) return false;
    gl.deleteSync(sync);
    return true;
  };
}

/** A program that is being compiled. @typedef {{ program: WebGLProgram, stages: [string, WebGLShader][] }} Begun */
/**
 * A program and the places of its uniforms.
 * @typedef {{ program: WebGLProgram, at: (name: string) => WebGLUniformLocation }} Program
 */

/**
 * Starts compiling screen.vert with a fragment shader, without waiting for it.
 * @param {WebGL2RenderingContext} gl
 * @param {Record<string, string>} sources texts by their names below viewer/shaders
 * @param {string} fragment
 * @param {Record<string, any>} defines
 * @returns {Begun}
 */
export function beginProgram(gl, sources, fragment, defines) {
  const program = gl.createProgram();
  /** @type {[string, WebGLShader][]} */
  const stages = [];
  for (const name of ["screen.vert", fragment]) {
    const shader = gl.createShader(name.endsWith(".vert") ? gl.VERTEX_SHADER : gl.FRAGMENT_SHADER);
    gl.shaderSource(shader, assemble(sources, name, defines));
    gl.compileShader(shader);
    gl.attachShader(program, shader);
    stages.push([name, shader]);
  }
  gl.linkProgram(program);
  return { program, stages };
}

/** @param {WebGL2RenderingContext} gl @param {Begun} begun @returns {Program} */
export function finishProgram(gl, { program, stages }) {
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    const logs = stages.map(([name, shader]) => `${name}: ${gl.getShaderInfoLog(shader) ?? ""}`);
    const reason = `${logs.join(" ")} ${gl.getProgramInfoLog(program)}`.slice(0, 500);
    throw new Error(`${t("This device cannot draw the scene.")} ${reason}`);
  }
  /** @type {Map<string, WebGLUniformLocation>} */
  const places = new Map();
  const at = (/** @type {string} */ name) => {
    if (!places.has(name)) places.set(name, gl.getUniformLocation(program, name));
    return places.get(name);
  };
  return { program, at };
}

function assemble(sources, name, defines) {
  const body = sources[name].replace(/^#include "(.+)"$/gm, (_, path) => sources[path]);
  const lines = Object.entries(defines).map(([key, value]) => `#define ${key} ${value}`);
  return `${sources["prologue_web.glsl"]}${lines.join("\n")}\n${body}`;
}
