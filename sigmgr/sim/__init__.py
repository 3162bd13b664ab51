"""The emulated cloud and its clients: for the demo, the simulation and the tests.

``verifier``  reads and checks sigs from the format notes alone, apart from the signer
``cloud``     sessions that die at the second their sig expires; ``rooms`` the TRTC part
``sse``       the event-stream parser; ``wire`` the HTTP/1.1 answer that it reads from
``client``    one emulated client; ``fleet`` many of them and what they counted
``display``   what a newcomer sees in the first minute; ``demo`` drives it all in real time
"""
