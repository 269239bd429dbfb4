"""Several workers behind one port: who starts them, keeps their sockets and answers for all of them.

A worker that dies takes its own requests with it and nothing else: the socket that it listened on stays open here, so
that who connects meanwhile waits in the kernel's queue for the next one. This room serves no request.
"""
