// Inverse of pack.py: a header and columns of numbers.
const ARRAYS = { f4: Float32Array, f8: Float64Array, i4: Int32Array };

async function gunzip(text) {
  const bytes = Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function unpack(text) {
  const whole = await gunzip(text);
  const length = new DataView(whole.buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(whole.subarray(4, 4 + length)));
  const arrays = {};
  let at = 4 + length;
  for (const [name, kind, count] of header.arrays) {
    const size = Number(kind[1]);
    const bytes = new Uint8Array(size * count);
    for (let plane = 0; plane < size; plane++)
      for (let k = 0; k < count; k++) bytes[k * size + plane] = whole[at + plane * count + k];
    arrays[name] = new ARRAYS[kind](bytes.buffer);
    at += size * count;
  }
  return { header, arrays };
}
