// What both sides share: the octets of every PDU, and one JSON line an event.
'use strict';
const smpp = require('smpp');
const { PDU } = smpp;

smpp.addTLV('vendor_note', { id: 0x1401, type: smpp.types.tlv.string });

// Keep the octets that came.
PDU.fromStream = function (stream, length) {
  const rest = stream.read(length - 4);
  if (!rest) return false;
  const head = Buffer.alloc(4);
  head.writeUInt32BE(length, 0);
  const all = Buffer.concat([head, rest]);
  const pdu = new PDU(all);
  Object.defineProperty(pdu, 'raw', { value: all.toString('hex') });
  return pdu;
};

// Keep the octets that go.
const toBuffer = PDU.prototype.toBuffer;
PDU.prototype.toBuffer = function () {
  const all = toBuffer.call(this);
  Object.defineProperty(this, 'raw', { value: all.toString('hex'), configurable: true });
  return all;
};

// A PDU of octets as they are, for what the library has no words for. A request
// gets its sequence_number from the session.
function octets(b, response) {
  return {
    raw: b.toString('hex'),
    sequence_number: response ? b.readUInt32BE(12) : 0,
    isResponse: () => response,
    toBuffer() {
      b.writeUInt32BE(this.sequence_number, 12);
      this.raw = b.toString('hex');
      return b;
    },
  };
}

function say(event) {
  process.stdout.write(JSON.stringify(event) + '\n');
}

// The text of a message as this library reads it.
function text(pdu) {
  const m = pdu.message_payload || pdu.short_message;
  const body = m && m.message !== undefined ? m.message : m;
  return Buffer.isBuffer(body) ? body.toString('latin1') : body;
}

// An orderly end when the one who started this process closes its stdin.
function untilStdinEnds(end) {
  process.stdin.resume();
  process.stdin.on('end', end);
}

module.exports = { smpp, PDU, octets, say, text, untilStdinEnds };
