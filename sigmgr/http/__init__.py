"""The HTTP face of sigmgr: one ASGI callable, and the server that runs it.

A route is a few lines: parse, call one flow, shape the answer. No rule about sigs lives
here, and nothing here knows SQL, Redis or keys.
"""
