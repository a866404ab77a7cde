// The wipe between photo and rendering: the slider says where the rendering begins.
for (const slider of document.querySelectorAll(".wipe input")) {
  const move = () => slider.parentElement.style.setProperty("--at", `${slider.value}%`);
  slider.addEventListener("input", move);
  move();
}
