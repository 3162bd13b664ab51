"""The composition root: settings in, running parts out.

Three context managers: ``base.open_base`` (database, keys, apps) for commands that manage,
``parts.open_parts`` (and the flows) for commands that issue, and ``service.open_service`` (and
gateway, jobs, HTTP) for ``serve``.
"""
