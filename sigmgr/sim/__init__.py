"""The emulated cloud and its clients: for the demo, the simulation and the tests.

``verifier``       verifies sigs by the format notes alone, apart from the signer
``cloud``          sessions that end in the second their sig expires; ``rooms`` the TRTC part
``client``         one emulated client over HTTP; ``client_state`` its sig and session
``http_stream``    a streaming HTTP/1.1 GET; ``sse_parser`` parses the events in it
``fleet``          many clients and their counts; ``demo`` and ``display`` run and show them
``virtual_time``   the simulation: flows and emulated users over virtual months
``fault_schedule`` when which port fails; ``faults`` raises the errors
``invariants``     checks every commit of a simulation or a test
"""
