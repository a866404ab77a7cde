// @ts-check
// The tables of words. They are fetched from strings/; a page of one file replaces this module by one that holds them.

/** @param {string} name a language @returns {Promise<Record<string, string>>} translations by their English */
export async function loadTable(name) {
  const response = await fetch(new URL(`./strings/${name}.json`, import.meta.url));
  if (!response.ok) throw new Error(`strings/${name}.json could not be loaded (HTTP ${response.status}).`);
  return response.json();
}
