"""The desktop viewer: the shaders of ``viewer/shaders`` under OpenGL 3.3, in a window or without a display.

Needs numpy, Pillow, PyOpenGL and glfw. Never imports torch, so that a window opens in under a second.
"""
