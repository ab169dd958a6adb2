from mdtool.cli import main

raise SystemExit(main())
