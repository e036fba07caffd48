import type { Socket } from "node:net";

/** Ends a connection by RST, at once. node's own resetAndDestroy() sends a FIN first, and the RST only if the FIN is
 *  through when the socket is destroyed, be it by an error of the other side; if it is not (`reset EINVAL`), the
 *  descriptor stays open and the process spins at its end, for ever (node 24.21, TCPWrap::Reset: it counts as closing,
 *  while uv_close was not called). */
export function resetSocket(socket: Socket): void {
  // A FIN may be on its way at that moment.
  if (!socket.writableEnded && !socket.connecting)
    (socket as unknown as { resetAndClosing: boolean }).resetAndClosing = true;
  socket.destroy();
}
