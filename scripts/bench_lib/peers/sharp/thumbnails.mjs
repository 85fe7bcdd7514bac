// Thumbnails by sharp: fetch, resize, PUT, many at once. Each line of standard input is an order,
// {"source": URL, "target": URL's beginning, "first": N, "jobs": N, "width", "height", "window"};
// it is answered by one line when all its jobs are done.

import http from "node:http";
import { createInterface } from "node:readline";
import sharp from "sharp";

// Every job is a picture of its own: one thread each, and nothing to find again in a cache.
sharp.concurrency(1);
sharp.cache(false);

const agent = new http.Agent({ keepAlive: true, maxSockets: Infinity });

function send(method, url, body) {
  return new Promise((resolve, reject) => {
    const headers = body ? { "Content-Length": body.length } : {};
    const request = http.request(url, { method, agent, headers }, (answer) => {
      const chunks = [];
      answer.on("data", (chunk) => chunks.push(chunk));
      answer.on("error", reject);
      answer.on("end", () => {
        if (answer.statusCode >= 300) reject(new Error(`${method} was answered ${answer.statusCode}`));
        else resolve(Buffer.concat(chunks));
      });
    });
    request.on("error", reject);
    request.end(body);
  });
}

async function thumbnail(order, number) {
  const picture = await send("GET", order.source);
  const small = await sharp(picture)
    .resize(order.width, order.height, { fit: "cover" })
    .jpeg({ quality: 85 })
    .toBuffer();
  await send("PUT", `${order.target}${number}.jpg`, small);
}

async function carryOut(order) {
  let next = order.first;
  const end = order.first + order.jobs;
  const some = async () => {
    while (next < end) await thumbnail(order, next++);
  };
  await Promise.all(Array.from({ length: order.window }, some));
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    const order = JSON.parse(line);
    await carryOut(order);
    answer = { done: order.jobs };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
