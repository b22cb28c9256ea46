"""python -m karpenter_aws_peer serve|facts"""

from __future__ import annotations

import argparse
import sys


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="karpenter_aws_peer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve AWS on loopback until told to stop")
    serve.add_argument("--port", type=int, default=0, help="0: any free port, told in the ready line")
    serve.add_argument("--region", default="us-west-2")
    serve.add_argument("--seed", choices=("default", "none"), default="default", help="what is there at the start")
    serve.add_argument("--exit-with-stdin", action="store_true", help="stop when standard input closes")
    serve.add_argument("--kubeconfig", help="join nodes to this cluster (or tell later: POST /_peer/cluster)")
    commands.add_parser("facts", help="print what moto knows of instance types, one a line")
    given = parser.parse_args(arguments)
    if given.command == "facts":
        from .facts import lines

        print("\n".join(lines()))
        return 0

    from .serve import serve as run

    return run(given.port, given.region, given.seed, given.exit_with_stdin, given.kubeconfig)


if __name__ == "__main__":
    sys.exit(main())
